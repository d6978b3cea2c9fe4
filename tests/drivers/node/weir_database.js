// SPDX-License-Identifier: Apache-2.0
// Reads the database `weir` as an app would; prints what it saw as one line of JSON.
'use strict';

const { MongoClient } = require(process.env.DRIVER);

async function refusal(action) {
  try {
    await action();
    return null;
  } catch (error) {
    return error.code;
  }
}

async function main() {
  const client = new MongoClient(process.env.URI, { appName: 'node-reader' });
  const weir = client.db('weir');
  const settings = weir.collection('config');
  const names = (await weir.listCollections().toArray()).map((one) => one.name);
  const byBatches = await settings.find({}, { batchSize: 3 }).sort({ _id: -1 }).toArray();
  console.log(JSON.stringify({
    names,
    mine: await weir.collection('clients').countDocuments({ app: 'node-reader' }),
    settings: await settings.estimatedDocumentCount(),
    byBatches: byBatches.map((one) => one._id),
    one: await settings.findOne({ _id: 'upstream.maxConnections' }),
    projected: await settings.find({ _id: { $in: ['net.port'] } })
      .project({ value: 1, _id: 0 }).toArray(),
    refused: await refusal(() => settings.insertOne({})),
  }));
  await client.close();
}

main();
