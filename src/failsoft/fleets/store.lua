-- What the store does with one report about one breaker: KEYS[1] is the breaker, ARGV what protocol.Report sends.
--
-- One hash a breaker, so that it works in a cluster. Its fields:
--   v layout    d digest of the settings    g generation    s 1 open, 0 closed    u open until    l who may probe, until e
--   n hosts and o hosts that are open, as counted at c; x 1: another has opened since
--   k failures in a row over the fleet, begun by host f; b 1: of more than one host
--   m:<member> when it was last seen, and its calls, failures, slow calls    o:<member> it is open, until when
--   wc:<slice> wf:<slice> ws:<slice> calls, failures and slow calls of all hosts in that slice of the window
-- Times are milliseconds of this server, which no host ever compares with its own. A member is "host/process".
-- tests/reference/fleet_store.py says the same in Python.
local key = KEYS[1]
local layout, digest, me, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local number = {}
for i = 5, #ARGV do number[i - 4] = tonumber(ARGV[i]) end
local known_g, known_s, known_left, say, left, want, lease, calls, failures, slow = unpack(number, 1, 10)
local least, share, most, presence, window, threshold, failure_rate, slow_rate, minimum, wait = unpack(number, 11, 20)

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local host = string.match(me, '^(.*)/')
local written = false

local function text(value) return type(value) == 'number' and string.format('%.0f', value) or value end
local function set(field, value)
    redis.call('HSET', key, field, text(value))
    written = true
end
local function drop(field)
    if redis.call('HDEL', key, field) == 1 then written = true end
end
local function near(at, reach) return at ~= nil and math.abs(now - at) <= reach end

-- Count hosts, those that are open, and until when; forget who was not seen for long.
local function count(but)
    local hosts, votes, n, o, latest = {}, {}, 0, 0, now
    local slice = math.floor(now / math.max(math.ceil(window / 10), 1))
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
        local kind, name = string.sub(all[i], 1, 2), string.sub(all[i], 3)
        local who = string.match(name, '^(.*)/')
        if kind == 'm:' then
            if not near(tonumber(string.match(all[i + 1], '^%d+')), presence) then
                drop(all[i])
            elseif name ~= but and not hosts[who] then
                hosts[who], n = true, n + 1
            end
        elseif kind == 'o:' then
            local till = tonumber(all[i + 1])
            if till + presence < now or till > now + most + presence then
                drop(all[i])
            else
                votes[who] = math.max(votes[who] or 0, till)
            end
        elseif kind == 'wc' or kind == 'wf' or kind == 'ws' then
            local of = tonumber(string.sub(all[i], 4))
            if of > slice or of <= slice - 10 then drop(all[i]) end
        end
    end
    for who, till in pairs(votes) do
        if hosts[who] then
            o = o + 1
            latest = math.max(latest, till)
        end
    end
    return n, o, latest
end
local function forget(...)
    local kinds, all = {...}, redis.call('HKEYS', key)
    for i = 1, #all do
        for j = 1, #kinds do
            if string.sub(all[i], 1, #kinds[j]) == kinds[j] then drop(all[i]) end
        end
    end
    drop('k') drop('f') drop('b') drop('x')
end

local has = redis.call('HMGET', key, 'v', 'd', 'g', 's', 'u', 'l', 'e', 'n', 'o', 'c', 'x')
local fresh = redis.call('EXISTS', key) == 0
local g, s, u = tonumber(has[3] or ''), tonumber(has[4] or ''), tonumber(has[5] or '')
if not fresh and (has[1] ~= layout or not (has[2] and g and s and u)) then return {'layout', has[1] or '', now} end
local owner, ends = has[6] or '', tonumber(has[7] or '') or 0
local n, o, counted = tonumber(has[8] or '') or 0, tonumber(has[9] or '') or 0, tonumber(has[10] or '')
local pending = has[11] == '1'

if say == 4 then -- it leaves
    drop('m:' .. me)
    drop('o:' .. me)
    if owner == me then drop('l') end
    return {'ok', g or 0, s or 0, 0, 0, n, o, now}
end
if fresh then
    g, s, u = -1, 0, 0
    set('v', layout)
    set('d', digest)
elseif has[2] ~= digest then
    if n == 0 or not near(counted, presence / 4) then
        n = count(me)
        set('n', n) set('c', now)
    end
    if n > 0 then return {'differs', has[2], now} end
    forget('o:', 'wc', 'wf', 'ws')
    drop('l')
    set('d', digest)
    owner, counted = '', nil
end

local function become(state, till)
    g, s, u, owner, ends, o = g + 1, state, till, '', 0, 0
    set('g', g) set('s', s) set('u', u) set('o', 0)
    drop('l')
    forget('o:', 'wc', 'wf', 'ws')
    redis.pcall('PUBLISH', channel, key)
end

-- Who knows of a later generation is right: this store has forgotten, or is another one since. Open wins among equals.
if known_g > g or (known_g == g and known_s == 1 and s == 0) then
    g, s, u, owner = known_g, known_s, known_s == 1 and now + math.min(known_left, most) or 0, ''
    set('g', g) set('s', s) set('u', u)
    drop('l')
end
if s == 1 and u - now > most then -- the clock of another server
    u = now + most
    set('u', u)
end
if owner ~= '' and ends - now > 2 * lease then
    ends = now
    set('e', ends)
end

-- It is here, and so many calls have ended since it last said so.
local mine = redis.call('HGET', key, 'm:' .. me)
local seen, had_calls, had_failures, had_slow
if mine then
    seen, had_calls, had_failures, had_slow = string.match(mine, '^(%d+) (%d+) (%d+) (%d+)$')
    seen = tonumber(seen)
end
local more_calls, more_failures, more_slow = 0, 0, 0
if window > 0 and seen then
    more_calls = math.max(calls - tonumber(had_calls), 0)
    more_failures = math.max(failures - tonumber(had_failures), 0)
    more_slow = math.max(slow - tonumber(had_slow), 0)
end
if not near(seen, presence / 4) or more_calls > 0 then
    set('m:' .. me, text(now) .. ' ' .. text(calls) .. ' ' .. text(failures) .. ' ' .. text(slow))
end

-- It is open by itself.
if say == 1 and s == 0 then
    local before = tonumber(redis.call('HGET', key, 'o:' .. me) or '')
    local till = now + math.min(left, most)
    if before ~= till then set('o:' .. me, till) end
    if not before or before + presence < now then
        pending = true
        set('x', 1)
    end
else
    drop('o:' .. me)
end

-- A count is a look at all hosts. Made at each report, a thousand that come at once would cost a million looks.
local pause = presence / 4
if not seen then pause = math.min(pause, 250) end
if pending then pause = math.min(pause, 25) end
if not near(counted, pause) then
    local latest
    n, o, latest = count()
    set('n', n) set('o', o) set('c', now)
    drop('x')
    if s == 0 and o >= math.max(least, math.ceil(share * n)) then become(1, math.min(latest, now + most)) end
end

-- It has probed: well, or not. Only who may, or where nobody else does.
local probed = s == 1 and known_g == g and (owner == me or (now >= u and (owner == '' or ends <= now)))
if probed and say == 2 then become(0, 0) end
if probed and say == 3 then become(1, now + math.min(left, most)) end

-- The counts of all hosts.
if more_calls > 0 and s == 0 then
    local width = math.max(math.ceil(window / 10), 1)
    local slice = math.floor(now / width)
    redis.call('HINCRBY', key, 'wc:' .. text(slice), more_calls)
    if more_failures > 0 then redis.call('HINCRBY', key, 'wf:' .. text(slice), more_failures) end
    if more_slow > 0 then redis.call('HINCRBY', key, 'ws:' .. text(slice), more_slow) end
    if more_calls > more_failures then
        drop('k') drop('f') drop('b')
    else
        redis.call('HINCRBY', key, 'k', more_failures)
        local first = redis.call('HGET', key, 'f')
        if not first then set('f', host) elseif first ~= host then set('b', 1) end
    end
    if more_failures > 0 or more_slow > 0 then
        local row = redis.call('HMGET', key, 'k', 'b')
        local sum = {0, 0, 0}
        for i = 0, 9 do
            local of = text(slice - i)
            local part = redis.call('HMGET', key, 'wc:' .. of, 'wf:' .. of, 'ws:' .. of)
            for j = 1, 3 do sum[j] = sum[j] + (tonumber(part[j] or '') or 0) end
        end
        local trips = threshold > 0 and row[2] == '1' and tonumber(row[1] or '0') >= threshold
        if sum[1] >= minimum then
            trips = trips or (more_failures > 0 and sum[2] / sum[1] >= failure_rate)
            trips = trips or (sum[3] > 0 and sum[3] / sum[1] >= slow_rate)
        end
        if trips then become(1, now + math.min(wait, most)) end
    end
end

if want == 1 and s == 1 and now >= u and (owner == '' or ends <= now or owner == me) then
    owner, ends = me, now + lease
    set('l', owner)
    set('e', ends)
elseif want == 2 and owner == me then
    owner = ''
    drop('l')
end

if written then
    redis.call('PEXPIRE', key, text(60000 + 4 * presence + window + 2 * math.max(u - now, 0)))
end
local may = owner == me and math.max(ends - now, 0) or 0
return {'ok', g, s, math.max(u - now, 0), may, n, o, now}
