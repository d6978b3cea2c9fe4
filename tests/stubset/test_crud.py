# SPDX-License-Identifier: Apache-2.0
"""Documents: the little that the stub can do with them, done right."""

from __future__ import annotations

import pytest
from pymongo import DeleteOne, InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure


@pytest.fixture
def things(stubs, connect):
    return connect(stubs(members=1, wire=(0, 27)).uri).test.things


def test_reading(things):
    things.insert_many([{"_id": n, "n": n % 3, "in": {"a": [n]}} for n in range(10)])
    assert [d["_id"] for d in things.find({"n": 1}).sort("_id", -1)] == [7, 4, 1]
    assert [d["_id"] for d in things.find({"_id": {"$gt": 2, "$lt": 6}}, skip=1, limit=1)] == [4]
    assert things.find_one({"in.a": 8}, {"n": 1}) == {"_id": 8, "n": 2}
    assert things.count_documents({"n": {"$in": [0, 1]}}) == 7
    assert things.estimated_document_count() == 10
    assert things.distinct("n") == [0, 1, 2]
    groups = things.aggregate(
        [{"$group": {"_id": "$n", "all": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    )
    assert [group["all"] for group in groups] == [4, 3, 3]
    with pytest.raises(OperationFailure):
        things.find_one({"n": {"$near": 1}})


def test_writing(things):
    things.insert_one({"_id": 1, "n": 1})
    with pytest.raises(DuplicateKeyError):
        things.insert_one({"_id": 1})
    assert (
        things.update_one({"_id": 1}, {"$set": {"in.a": 1}, "$inc": {"n": 2}}).modified_count == 1
    )
    assert things.find_one() == {"_id": 1, "n": 3, "in": {"a": 1}}
    assert things.replace_one({"_id": 1}, {"b": 1}).matched_count == 1
    assert things.update_one({"_id": 2}, {"$set": {"b": 1}}, upsert=True).upserted_id == 2
    assert things.update_many({"b": 1}, {"$unset": {"b": ""}}).modified_count == 2
    assert things.find_one_and_update({"_id": 2}, {"$push": {"l": 1}}, upsert=True) == {"_id": 2}
    assert things.find_one_and_delete({"_id": 2}) == {"_id": 2, "l": [1]}
    assert things.delete_many({}).deleted_count == 1
    assert things.find_one() is None


def test_many_at_once(things):
    with pytest.raises(BulkWriteError) as raised:
        things.bulk_write([InsertOne({"_id": 1}), InsertOne({"_id": 1}), InsertOne({"_id": 2})])
    assert raised.value.details["nInserted"] == 1
    with pytest.raises(BulkWriteError) as raised:
        things.insert_many([{"_id": 1}, {"_id": 2}], ordered=False)
    assert raised.value.details["nInserted"] == 1
    result = things.database.client.bulk_write(
        [
            InsertOne({"_id": 3}, namespace="test.others"),
            UpdateOne({"_id": 1}, {"$set": {"a": 1}}, namespace="test.things"),
            DeleteOne({"_id": 2}, namespace="test.things"),
        ]
    )
    counts = (result.inserted_count, result.modified_count, result.deleted_count)
    assert counts == (1, 1, 1) and things.find_one() == {"_id": 1, "a": 1}


def test_collections_and_indexes(things):
    database = things.database
    database.create_collection("things")
    assert database.list_collection_names() == ["things"]
    assert things.create_index("n") == "n_1"
    assert set(things.index_information()) == {"_id_", "n_1"}
    things.drop_indexes()
    assert set(things.index_information()) == {"_id_"}
    list(things.aggregate([{"$out": "copy"}]))
    database.client.drop_database("test")
    assert database.list_collection_names() == []


def test_the_servers_own_fail_point_works(stubs, connect):
    client = connect(stubs(members=1).uri, appname="one")
    data = {"failCommands": ["insert"], "errorCode": 11602, "errorLabels": ["RetryableWriteError"]}
    client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=data)
    client.test.things.insert_one({})
    data = {"failCommands": ["find"], "errorCode": 50, "appName": "one"}
    client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
    with pytest.raises(OperationFailure):
        client.test.things.find_one()
    client.admin.command("configureFailPoint", "failCommand", mode="off")
    assert client.test.things.find_one()
