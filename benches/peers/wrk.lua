-- Headers come as arguments (`name: value`); the last line that is printed has the figures for `load.rs`.
function init(lines)
  for _, line in ipairs(lines) do
    local name, value = line:match("^(.-):%s*(.*)$")
    wrk.headers[name] = value
  end
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("figures %d %d %d %d %d %d %d\n", summary.requests, summary.duration, summary.bytes, failed,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
