-- Asks for each id of a file once: wrk ... ADDRESS -- IDS METHOD SUFFIX BODY
-- When the ids are used up it asks for what is not there, and so the measurement fails instead of lying.
local ids, method, suffix, body, number = {}, nil, nil, nil, 0

function init(arguments)
  for id in io.lines(arguments[1]) do ids[#ids + 1] = id end
  method, suffix, body = arguments[2], arguments[3], arguments[4]
  if body == "" then body = nil else wrk.headers["Content-Type"] = "application/json" end
end

function request()
  number = number + 1
  return wrk.format(method, "/users/" .. (ids[number] or "no-ids-left") .. suffix, nil, body)
end
