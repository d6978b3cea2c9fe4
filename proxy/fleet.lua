-- SPDX-License-Identifier: Apache-2.0
--
-- The half of a lease that is in Redis or Valkey (policy/lease.h has the other, and says why it is
-- right). One call does everything, at once: enters who asks, forgets whose entry has stood still,
-- and gives out what is free.
--
--      KEYS[1]   a hash:  epoch   its name            run    of the process that began it
--                         mature  "1" or ""           terms  of all: "cap floor instances leaseMs"
--                         m:ID    "seq held need room name"
--      ARGV      id seq terms epoch mature held need room name leaves [id seq]...
--      returns   {"granted", epoch, mature, held, told, [id, seq, held, need, name]...}
--                {"full"} {"terms", theirs} {"old"} {"left"}
--
-- Invariant: what is held by all together grows only in a mature epoch, and then not above
-- cap - instances * floor.
local key = KEYS[1]
local id, seq, terms, epoch, mature = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local held, need, room = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local name, leaves = ARGV[9], ARGV[10] == "1"
local cap, floor, instances = string.match(terms, "^(%d+) (%d+) (%d+) %d+$")
local pool = cap - instances * floor

-- What the hash says is what was last done only as long as the process is the same: after a restart
-- or a failover it may be older, and nobody could tell.
local run = string.match(redis.call("INFO", "server"), "run_id:(%w+)")
local stored = {}
local fields = redis.call("HGETALL", key)
for i = 1, #fields, 2 do
    stored[fields[i]] = fields[i + 1]
end
if not stored.epoch or stored.run ~= run then
    redis.call("DEL", key)
    stored = {epoch = id .. "-" .. seq, run = run, mature = "", terms = terms}
    redis.call("HSET", key, "epoch", stored.epoch, "run", run, "mature", "", "terms", terms)
end
if mature == "1" and epoch == stored.epoch and stored.mature ~= "1" then
    stored.mature = "1"
    redis.call("HSET", key, "mature", "1")
end

local over = {}
for i = 11, #ARGV, 2 do
    over[ARGV[i]] = tonumber(ARGV[i + 1])
end
local members, count = {}, 0
for field, value in pairs(stored) do
    local who = string.match(field, "^m:(.+)$")
    if who then
        local s, h, n, r, called = string.match(value, "^(%d+) (%d+) (%d+) (%d+) (.*)$")
        if over[who] == tonumber(s) then
            redis.call("HDEL", key, field)
        else
            members[who] = {id = who, seq = tonumber(s), held = tonumber(h), need = tonumber(n),
                            room = tonumber(r), name = called}
            count = count + 1
        end
    end
end

local me = members[id]
if me and seq <= me.seq then
    return {"old"}
end
if leaves then
    redis.call("HDEL", key, "m:" .. id)
    return {"left"}
end
if terms ~= stored.terms then
    if count > (me and 1 or 0) then
        return {"terms", stored.terms}
    end
    redis.call("HSET", key, "terms", terms)
end
if me then
    me.held = math.min(me.held, held)
elseif count >= tonumber(instances) then
    return {"full"}
else
    -- Unknown here, but from before this epoch: it goes on with what it has. Else it has nothing.
    me = {id = id, held = stored.mature == "1" and 0 or held}
    members[id] = me
    count = count + 1
end
me.seq, me.need, me.room, me.name = seq, need, room, name

local all, total = {}, 0
for _, member in pairs(members) do
    all[#all + 1] = member
    total = total + member.held
end
table.sort(all, function(a, b) return a.id < b.id end)

-- Divides `amount`: to each up to what it asks for, as evenly as that allows.
local function share(amount, asked, give)
    local order = {}
    for i, member in ipairs(all) do
        order[i] = member
    end
    table.sort(order, function(a, b)
        if asked(a) ~= asked(b) then
            return asked(a) < asked(b)
        end
        return a.id < b.id
    end)
    for i, member in ipairs(order) do
        local part = math.min(asked(member), math.floor(amount / (#order - i + 1)))
        give(member, part)
        amount = amount - part
    end
    return amount
end

local spare = share(pool, function(m) return m.need end, function(m, part) m.due = part end)
share(spare, function(m) return m.room - m.due end, function(m, part) m.fair = m.due + part end)

-- More, out of what is free. Less only as far as others lack what they need.
local free = pool - total
local told
if me.held < me.fair then
    if stored.mature == "1" and free > 0 then
        me.held = me.held + math.min(me.fair - me.held, free)
    end
    told = me.held
else
    local lack, excess = -free, 0
    for _, member in ipairs(all) do
        lack = lack + math.max(0, member.due - member.held)
        excess = excess + math.max(0, member.held - member.fair)
    end
    local mine = me.held - me.fair
    told = me.held
    if mine > 0 and lack > 0 then
        told = me.held - math.min(mine, math.ceil(lack * mine / excess))
    end
end

redis.call("HSET", key, "m:" .. id,
           string.format("%d %d %d %d %s", me.seq, me.held, me.need, me.room, me.name))
local reply = {"granted", stored.epoch, stored.mature, me.held, told}
for _, member in ipairs(all) do
    reply[#reply + 1] = member.id
    reply[#reply + 1] = string.format("%d", member.seq)
    reply[#reply + 1] = member.held
    reply[#reply + 1] = member.need
    reply[#reply + 1] = member.name
end
return reply
