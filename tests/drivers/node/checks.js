// SPDX-License-Identifier: Apache-2.0
//
// What a driver must be able to do, by Node's: the program behind test_drivers.py.
'use strict';

const { randomBytes } = require('node:crypto');
const { mongodb, need, equal, errorOf, run } = require('./report');

const { DATABASE, URI } = process.env;
const THREADS = Number(process.env.THREADS);
const ROUNDS = 5;
const DOCUMENTS = 100_000;
const LARGE_BYTES = 15_000_000;

const client = new mongodb.MongoClient(URI, { maxPoolSize: THREADS, appName: 'checks' });
const db = client.db(DATABASE);
const corpus = client.db('corpus');
const range = (count) => [...Array(count).keys()];

const checks = {
  async crud() {
    const things = db.collection('things');
    equal((await things.insertOne({ _id: 1, n: 1 })).insertedId, 1);
    equal(await things.findOne({ _id: 1 }), { _id: 1, n: 1 });
    equal((await things.updateOne({ _id: 1 }, { $inc: { n: 1 } })).modifiedCount, 1);
    const upserted = await things.updateOne({ _id: 2 }, { $set: { n: 5 } }, { upsert: true });
    equal(upserted.upsertedId, 2);
    equal((await things.findOneAndUpdate({ _id: 2 }, { $inc: { n: 1 } })).n, 5);
    equal((await things.replaceOne({ _id: 2 }, { n: 7 })).matchedCount, 1);
    const found = await things.find({}, { sort: { _id: 1 } }).toArray();
    equal(found, [{ _id: 1, n: 2 }, { _id: 2, n: 7 }]);
    equal((await things.deleteOne({ _id: 1 })).deletedCount, 1);
    equal(await things.countDocuments({}), 1);
    equal(await things.distinct('n'), [7]);
  },

  async bulk_10000() {
    const bulk = db.collection('bulk');
    const documents = range(10_000).map((i) => ({ _id: i, text: 'x'.repeat(100) }));
    equal((await bulk.insertMany(documents)).insertedCount, 10_000);
    equal(await bulk.countDocuments({}), 10_000);
  },

  async document_15mb() {
    const content = Buffer.alloc(LARGE_BYTES, randomBytes(1_000));
    await db.collection('large').insertOne({ _id: 1, content });
    const read = await db.collection('large').findOne({ _id: 1 });
    equal(content.equals(read.content.buffer), true);
  },

  async cursor_100000() {
    const seen = Buffer.alloc(DOCUMENTS);
    for await (const { _id } of corpus.collection('numbers').find()) seen[_id] += 1;
    equal(seen.equals(Buffer.alloc(DOCUMENTS, 1)), true);
  },

  async aggregation() {
    const groups = await corpus.collection('few').aggregate([
      { $match: { _id: { $lt: 500 } } },
      { $group: { _id: '$n', sum: { $sum: '$_id' } } },
      { $sort: { _id: 1 } },
    ]).toArray();
    equal(groups.map((group) => group.sum), range(10).map((n) => 12250 + 50 * n));
  },

  async indexes() {
    const indexed = db.collection('indexed');
    const names = async () => (await indexed.indexes()).map((index) => index.name).sort();
    await indexed.insertOne({ a: 1 });
    equal(await indexed.createIndex({ a: 1, b: -1 }, { name: 'by_a' }), 'by_a');
    equal(await names(), ['_id_', 'by_a']);
    await indexed.dropIndex('by_a');
    equal(await names(), ['_id_']);
  },

  async duplicate_key() {
    await db.collection('unique').insertOne({ _id: 1 });
    return await errorOf(db.collection('unique').insertOne({ _id: 1 }));
  },

  async bad_command() {
    const things = db.collection('things');
    return [
      await errorOf(db.command({ noSuchCommand: 1 })),
      await errorOf(things.findOne({ n: { $noSuchOperator: 1 } })),
      await errorOf(things.aggregate([{ $noSuchStage: {} }]).toArray()),
    ];
  },

  async transaction_commit() {
    need('transactions');
    const committed = await db.createCollection('committed');
    await client.withSession(async (session) => {
      session.startTransaction();
      await committed.insertOne({ _id: 1 }, { session });
      await committed.insertOne({ _id: 2 }, { session });
      equal(await committed.countDocuments({}), 0);
      equal(await committed.countDocuments({}, { session }), 2);
      await session.commitTransaction();
    });
    equal(await committed.countDocuments({}), 2);
  },

  async transaction_abort() {
    need('transactions');
    const aborted = db.collection('aborted');
    await aborted.insertOne({ _id: 1, n: 0 });
    const session = client.startSession();
    const other = client.startSession();
    session.startTransaction();
    await aborted.updateOne({ _id: 1 }, { $set: { n: 1 } }, { session });
    other.startTransaction();
    const late = aborted.updateOne({ _id: 1 }, { $set: { n: 2 } }, { session: other });
    const { code, labels } = await errorOf(late);
    await other.abortTransaction();
    await session.abortTransaction();
    await other.endSession();
    await session.endSession();
    equal(await aborted.findOne({ _id: 1 }), { _id: 1, n: 0 });
    return { code, labels };
  },

  async change_stream() {
    need('change_streams');
    const watched = await db.createCollection('watched');
    const stream = watched.watch([], { maxAwaitTimeMS: 500 });
    equal(await stream.tryNext(), null); // opens it
    await watched.insertOne({ _id: 1, text: 'seen' });
    const { operationType, fullDocument } = await stream.next();
    await stream.close();
    equal([operationType, fullDocument], ['insert', { _id: 1, text: 'seen' }]);
  },

  async unacknowledged_write() {
    need('unacknowledged_writes');
    const alone = new mongodb.MongoClient(URI, { maxPoolSize: 1 });
    try {
      const silent = alone.db(DATABASE).collection('silent', { writeConcern: { w: 0 } });
      for (const i of [1, 2, 2, 3]) { // the second 2 is an error that nobody hears of
        equal((await silent.insertOne({ _id: i })).acknowledged, false);
      }
      const deadline = Date.now() + 5000;
      while ((await silent.countDocuments({})) < 3 && Date.now() < deadline) {
        await new Promise((done) => setTimeout(done, 10));
      }
      for (const i of range(15)) {
        equal(await silent.findOne({ _id: (i % 3) + 1 }), { _id: (i % 3) + 1 });
      }
    } finally {
      await alone.close();
    }
  },

  async killed_cursor() {
    const cursor = corpus.collection('few').find({}, { batchSize: 2 });
    await cursor.next();
    const { id } = cursor;
    await cursor.close();
    const getMore = corpus.command({ getMore: id, collection: 'few', batchSize: 2 });
    const error = await errorOf(getMore);
    equal(error.code, 43);
    return { ...error, message: error.message.replace(/\d{5,}/, 'N') };
  },

  // As many at a time as the client has connections, each reading its own writes.
  async parallel_sessions() {
    const parallel = db.collection('parallel');
    const work = (number) => client.withSession({ causalConsistency: true }, async (session) => {
      for (const i of range(ROUNDS)) {
        const _id = number * ROUNDS + i;
        await parallel.insertOne({ _id, n: 0 }, { session });
        await parallel.updateOne({ _id }, { $inc: { n: 1 } }, { session });
        equal(await parallel.findOne({ _id }, { session }), { _id, n: 1 });
      }
    });
    await Promise.all(range(THREADS).map(work));
    equal(await parallel.countDocuments({}), THREADS * ROUNDS);
  },
};

async function main() {
  await db.dropDatabase();
  for (const [name, check] of Object.entries(checks)) await run(name, check);
  await db.dropDatabase();
  await client.close();
}

main();
