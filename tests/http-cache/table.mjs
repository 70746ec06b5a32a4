// Prints what each cache passes of the suite, and where the gate fails and why.
//
//   node table.mjs SUITE RESULTS
//
// Counts as the suite's own pages do: a test whose prerequisite fails is neither passed nor failed.
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, results] = process.argv.slice(2)
const load = async file => (await import(pathToFileURL(path.join(suite, 'tests', file)))).default
const suites = [...await load('index.mjs'), await load('surrogate-control.mjs')]
const tests = new Map(suites.flatMap(set => set.tests).filter(test => !test.browser_only).map(test => [test.id, test]))
const caches = ['feedgate', 'nginx', 'varnish', 'squid', 'trafficserver']
  .filter(cache => fs.existsSync(path.join(results, `${cache}.json`)))
const found = Object.fromEntries(caches.map(cache =>
  [cache, JSON.parse(fs.readFileSync(path.join(results, `${cache}.json`), 'utf8'))]))
const kind = test => test.kind ?? 'required'

function verdict (cache, id) {
  const test = tests.get(id)
  const result = found[cache][id]
  if (result === undefined) return 'untested'
  if ((test.depends_on ?? []).some(needed => verdict(cache, needed) !== 'pass')) return 'dependency'
  if (result === true) return 'pass'
  return result[0] === 'Setup' ? 'setup' : 'fail'
}

const of = wanted => [...tests.values()].filter(test => kind(test) === wanted)
const passed = (cache, list) => list.filter(test => verdict(cache, test.id) === 'pass').length
const row = (name, cells) => console.log(`| ${[name, ...cells].join(' | ')} |`)
row('', caches)
row('---', caches.map(() => '---'))
for (const wanted of ['required', 'optimal']) {
  const list = of(wanted)
  row(`${wanted}, of ${list.length}`, caches.map(cache => passed(cache, list)))
}
row('required that fail', caches.map(cache => of('required').filter(test => verdict(cache, test.id) === 'fail').length))

if (caches[0] === 'feedgate') {
  console.log('\nWhat the gate does not pass, and who of the others does:')
  for (const test of [...of('required'), ...of('optimal')]) {
    const outcome = verdict('feedgate', test.id)
    if (outcome === 'pass') continue
    const others = caches.slice(1).filter(cache => verdict(cache, test.id) === 'pass')
    const detail = Array.isArray(found.feedgate[test.id]) ? found.feedgate[test.id][1] : ''
    console.log(`- ${kind(test)} ${test.id}: ${outcome}; ${detail}; passed by: ${others.join(', ') || 'nobody'}`)
  }
}
