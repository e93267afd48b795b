-- take.lua takes one use of a key's Limit, or nothing: meter of the root package's gcra.go, to the letter, but in the
-- whole numbers that a double holds. Times are microseconds of the server's clock.
--
-- KEYS[1]  the key's state
-- ARGV     rate, per, burst, quota, period; 0: there is no such policy. A sixth is the time, for tests.
-- Answers  wait, uses left and time until full of the rate, uses left and time until full of the quota.

local rate, per, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local quota, period = tonumber(ARGV[4]), tonumber(ARGV[5])
local now = tonumber(ARGV[6])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000000 + t[2]
end

-- the state: version, then as in meter
local at, r, p, level, part, start, len, used = now, 0, 0, 0, 0, 0, 0, 0
local kept = redis.call('GET', KEYS[1])
if kept then
  local n = {}
  for word in string.gmatch(kept, '%S+') do n[#n + 1] = tonumber(word) end
  if #n ~= 9 or n[1] ~= 1 then
    return redis.error_reply('ERR the state of this limit is not one that this version reads')
  end
  at, r, p, level, part, start, len, used = n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9]
end
local moved = now < at -- what is kept must be written even when nothing is taken

-- divide returns the whole quotient and the rest; a * b may be beyond what is exact by a little
local function divide(a, b, by)
  local whole = math.floor(a / by) * b
  local units = (a % by) * b
  local more = math.floor(units / by)
  local rest = units - more * by
  if rest < 0 then more, rest = more - 1, rest + by end
  if rest >= by then more, rest = more + 1, rest - by end
  return whole + more, rest
end

-- settle
if p > 0 and now > at then
  local whole, rest = divide(now - at, r, p)
  if whole > level or whole == level and rest >= part then
    level, part = 0, 0
  else
    level, part = level - whole, part - rest
    if part < 0 then level, part = level - 1, part + p end
  end
end
at = now
local function over()
  if now - start >= len then start, len, used = 0, 0, 0 end
end
if len > 0 then
  if now < start then start = now end
  over()
end

-- adopt
if per > 0 then
  if per ~= p and part > 0 then level, part = level + 1, 0 end
  if r ~= rate or p ~= per then moved, r, p = true, rate, per end
  if level > burst or level == burst and part > 0 then moved, level, part = true, burst, 0 end
end
if period > 0 and len > 0 and len ~= period then
  moved, len = true, period
  over()
end

local function leaksin(whole, rest) -- at most what is still exact
  return math.min(math.ceil((whole * p + rest) / r), 9e15)
end

local wait = 0
if per > 0 and (level >= burst or level == burst - 1 and part > 0) then wait = leaksin(level + 1 - burst, part) end
if period > 0 and len > 0 and used >= quota then wait = math.max(wait, start + len - now) end
if wait == 0 then
  moved = true
  if per > 0 then level = level + 1 end
  if period > 0 then
    if len == 0 then start, len, used = now, period, 0 end
    used = used + 1
  end
end

local full = 0
if p > 0 then full = leaksin(level, part) end
local ends = 0
if len > 0 then ends = start + len - now end
if moved then
  -- It goes when nothing in it counts any more, and after ten years in any case.
  local ttl = math.min(math.ceil(math.max(full, ends) / 1000) + 1, 315360000000)
  redis.call('SET', KEYS[1], string.format('1 %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f',
    at, r, p, level, part, start, len, used), 'PX', string.format('%.0f', ttl))
end

local left = burst - level
if part > 0 then left = left - 1 end
local unused = quota
if len > 0 then unused = math.max(quota - used, 0) end
return {wait, left, full, unused, ends}
