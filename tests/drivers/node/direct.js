// SPDX-License-Identifier: Apache-2.0
// Reads, writes and reads again; prints what came of it as one line of JSON.
'use strict';

const { MongoClient } = require(process.env.DRIVER);

async function main() {
  const client = new MongoClient(process.env.URI, { retryWrites: false });
  const things = client.db('test').collection('things');
  const first = await things.find().toArray();
  const refused = await things.insertOne({}).then(() => null, (error) => error.code);
  const second = await things.find().toArray();
  console.log(JSON.stringify({ first, refused, second }));
  await client.close();
}

main();
