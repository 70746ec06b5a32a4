-- Headers come as arguments (`name: value`); the last line that is printed has the figures for `load.rs`.
-- `among N` before them: `many-0` in the path stands for any of `many-0` to `many-(N-1)`, one at random each time.
function init(lines)
  local among = tonumber(lines[1]:match("^among (%d+)$"))
  for index = 2, #lines do
    local name, value = lines[index]:match("^(.-):%s*(.*)$")
    wrk.headers[name] = value
  end
  if among > 1 then
    local requests = {}
    for number = 0, among - 1 do
      requests[number] = wrk.format("GET", (wrk.path:gsub("many%-0", "many-" .. number)))
    end
    request = function() return requests[math.random(0, among - 1)] end
  end
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("figures %d %d %d %d %d %d %d\n", summary.requests, summary.duration, summary.bytes, failed,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
