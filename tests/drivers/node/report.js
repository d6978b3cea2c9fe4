// SPDX-License-Identifier: Apache-2.0
//
// What the Node programs share: the driver, the lines they print, and how errors are told.
'use strict';

const { isDeepStrictEqual, inspect } = require('node:util');

// `mongodb` or `mongodb-old`, see package.json.
const mongodb = require(process.env.DRIVER);

class Lacking extends Error {}

function need(feature) {
  if (!process.env.FEATURES.split(' ').includes(feature)) {
    throw new Lacking(`the server has no ${feature}`);
  }
}

function equal(seen, wanted) {
  if (!isDeepStrictEqual(seen, wanted)) {
    throw new Error(`${inspect(seen)} instead of ${inspect(wanted)}`);
  }
}

// What an app can tell of an error.
function describe(error) {
  if (!(error instanceof mongodb.MongoServerError)) throw error;
  const reply = error.errorResponse ?? {};
  return {
    code: error.code,
    codeName: error.codeName ?? null,
    message: reply.errmsg ?? error.message,
    labels: [...error.errorLabels].sort(),
  };
}

// The same of the error that the promise must end in.
async function errorOf(promise) {
  let result;
  try {
    result = await promise;
  } catch (error) {
    return describe(error);
  }
  throw new Error(`no error but ${inspect(result)}`);
}

async function run(name, check) {
  try {
    const facts = await check();
    console.log(`ok ${name} ${facts === undefined ? '' : JSON.stringify(facts)}`);
  } catch (error) {
    const verdict = error instanceof Lacking ? 'skip' : 'not ok';
    console.log(`${verdict} ${name}: ${error.message.replaceAll('\n', ' ')}`);
  }
}

module.exports = { mongodb, need, equal, describe, errorOf, run };
