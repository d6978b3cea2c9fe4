// SPDX-License-Identifier: Apache-2.0
//
// What a driver makes of being refused, by Node's: the program behind test_shedding.py.
'use strict';

const readline = require('node:readline');
const { mongodb, describe } = require('./report');

const client = new mongodb.MongoClient(process.env.URI, { monitorCommands: true });
const attempts = {};
const disturbed = { cleared: 0, unknown: 0 };
client.on('commandStarted', ({ commandName }) => {
  attempts[commandName] = (attempts[commandName] ?? 0) + 1;
});
client.on('connectionPoolCleared', () => { disturbed.cleared += 1; });
client.on('serverDescriptionChanged', ({ newDescription }) => {
  if (newDescription.type === 'Unknown') disturbed.unknown += 1;
});

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function errorOf(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    const { code, codeName, labels } = describe(error);
    return { code, codeName, labels };
  }
}

async function main() {
  const shed = client.db(process.env.DATABASE).collection('shed');
  const operations = {
    find: () => shed.findOne({ _id: 0 }),
    insert: () => shed.insertOne({ _id: 1 }),
    update: () => shed.updateMany({}, { $inc: { n: 1 } }),
  };
  await shed.drop();
  await shed.insertOne({ _id: 0, n: 0 });
  Object.assign(attempts, { find: 0, insert: 0, update: 0 });
  Object.assign(disturbed, { cleared: 0, unknown: 0 });
  console.log('ready');
  await lines.next();
  const seen = {};
  for (const [name, call] of Object.entries(operations)) {
    const error = await errorOf(call());
    seen[name] = { error, attempts: attempts[name] };
  }
  console.log('ok refused', JSON.stringify(seen));
  await lines.next();
  const documents = await shed.countDocuments({});
  const { n } = await shed.findOne({ _id: 0 });
  await shed.insertOne({ _id: 2 });
  console.log('ok recovered', JSON.stringify({ documents, n }));
  console.log('ok undisturbed', JSON.stringify(disturbed));
  await client.close();
  process.exit();
}

main();
