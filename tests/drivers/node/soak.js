// SPDX-License-Identifier: Apache-2.0
//
// Traffic without end, by Node's driver; ../python/soak.py says more.
'use strict';

const { randomBytes } = require('node:crypto');
const { mongodb, equal } = require('./report');

const { DATABASE, URI } = process.env;
const NUMBERS = 1000;
const LARGE_BYTES = 300_000;
const TALLY_EVERY_MS = 500;

const client = new mongodb.MongoClient(URI, { appName: 'soak-node' });
const db = client.db(DATABASE);
const numbers = db.collection('numbers');
const things = db.collection('things');
const silent = db.collection('silent', { writeConcern: { w: 0 } });
const below = (limit) => Math.floor(Math.random() * limit);
const range = (count) => [...Array(count).keys()];

const work = {
  async echo(token) {
    const _id = below(NUMBERS);
    const found = await numbers.findOne({ _id }, { projection: { token: { $literal: token } } });
    equal(found, { _id, token });
  },

  async own_document(token) {
    const key = { _id: token };
    equal((await things.insertOne({ ...key, n: 1 })).insertedId, token);
    const error = await things.insertOne(key).then(() => null, (reason) => reason);
    if (error && error.code !== 11000) throw error;
    equal(error?.message.includes(token), true);
    equal(await things.findOne(key), { ...key, n: 1 });
    equal(await things.findOneAndUpdate(key, { $set: { n: 2 } }), { ...key, n: 1 });
    equal(await things.findOne(key), { ...key, n: 2 });
    await things.deleteOne(key);
    equal(await things.findOne(key), null);
  },

  async cursor(token) {
    const n = below(10);
    const how = { projection: { token: { $literal: token } }, batchSize: 17, sort: { _id: 1 } };
    const found = await numbers.find({ n }, how).toArray();
    equal(found, range(NUMBERS / 10).map((i) => ({ _id: 10 * i + n, token })));
  },

  async left_cursor(token) {
    const how = { projection: { token: { $literal: token } }, batchSize: 2 };
    const cursor = numbers.find({}, how);
    try {
      equal((await cursor.next()).token, token);
    } finally {
      await cursor.close();
    }
  },

  async large_document(token) {
    const content = Buffer.alloc(LARGE_BYTES, randomBytes(1000));
    await things.insertOne({ _id: token, content });
    equal(content.equals((await things.findOne({ _id: token }))?.content.buffer), true);
    await things.deleteOne({ _id: token });
  },

  async transaction(token) {
    const commit = Math.random() < 0.5;
    await client.withSession(async (session) => {
      session.startTransaction();
      try {
        for (const i of range(2)) {
          await things.insertOne({ _id: `${token}-${i}`, by: token }, { session });
        }
        equal(await things.countDocuments({ by: token }, { session }), 2);
        if (commit) await session.commitTransaction();
      } finally {
        if (session.inTransaction()) await session.abortTransaction();
      }
    });
    equal(await things.countDocuments({ by: token }), commit ? 2 : 0);
    await things.deleteMany({ by: token });
  },

  async unacknowledged(token) {
    equal((await silent.insertOne({ _id: token })).acknowledged, false);
    await work.echo(token);
  },
};

const wanted = (process.env.WORK ?? '').split(' ').filter(Boolean);
const names = ['echo', 'echo', ...Object.keys(work)]
  .filter((name) => wanted.length === 0 || wanted.includes(name));
const done = {};
const errors = {};
let ended = false;

function tell() {
  console.log('tally', JSON.stringify({ done, errors }));
}

async function goOn(thread) {
  for (let number = 0; !ended; number += 1) {
    const name = names[below(names.length)];
    try {
      await work[name](`${thread}-${number}`);
      done[name] = (done[name] ?? 0) + 1;
    } catch (error) {
      if (error instanceof mongodb.MongoError) {
        const kind = error.code ?? error.name;
        errors[kind] = (errors[kind] ?? 0) + 1;
      } else {
        console.log(`not ok ${name}: ${String(error).replaceAll('\n', ' ')}`);
      }
    }
  }
}

async function main() {
  const telling = setInterval(tell, TALLY_EVERY_MS);
  process.stdin.on('end', () => { ended = true; }).resume();
  const thread = `node-${process.pid}-${Date.now()}`;
  await Promise.all(range(Number(process.env.THREADS)).map((i) => goOn(`${thread}-${i}`)));
  clearInterval(telling);
  await client.close();
  tell();
}

main();
