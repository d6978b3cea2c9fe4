# SPDX-License-Identifier: Apache-2.0
"""What can be asked of documents: filters, updates, sort orders, and a little aggregation."""

from __future__ import annotations

import bson

from .errors import ServerError

MISSING = object()


def key_of(identity) -> object:
    """An _id as a key: equal numbers are one, True is not 1."""
    if isinstance(identity, bool | dict | list):
        return bson.encode({"": identity})
    return identity


def get(document, path: str):
    for step in path.split("."):
        if isinstance(document, dict):
            document = document.get(step, MISSING)
        elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return MISSING
    return document


def matches(document: dict, query: dict) -> bool:
    return all(_matches_field(document, field, wanted) for field, wanted in query.items())


def _matches_field(document: dict, field: str, wanted) -> bool:
    if field in LOGICAL:
        return LOGICAL[field](matches(document, query) for query in wanted)
    if field.startswith("$"):
        raise ServerError(2, f"unknown top level operator: {field}", misuse=False)
    value = get(document, field)
    if isinstance(wanted, dict) and wanted and next(iter(wanted)).startswith("$"):
        return all(_operator(name)(value, operand) for name, operand in wanted.items())
    return _equal(value, wanted)


def _equal(value, wanted) -> bool:
    if value is MISSING:
        return wanted is None
    if value == wanted and isinstance(value, bool) == isinstance(wanted, bool):
        return True
    return isinstance(value, list) and wanted in value


def _ordered(compare):
    def holds(value, operand) -> bool:
        try:
            return value is not MISSING and bool(compare(value, operand))
        except TypeError:
            return False

    return holds


LOGICAL = {"$and": all, "$or": any, "$nor": lambda found: not any(found)}
OPERATORS = {
    "$eq": _equal,
    "$ne": lambda value, operand: not _equal(value, operand),
    "$gt": _ordered(lambda a, b: a > b),
    "$gte": _ordered(lambda a, b: a >= b),
    "$lt": _ordered(lambda a, b: a < b),
    "$lte": _ordered(lambda a, b: a <= b),
    "$in": lambda value, operand: any(_equal(value, wanted) for wanted in operand),
    "$nin": lambda value, operand: not any(_equal(value, wanted) for wanted in operand),
    "$exists": lambda value, operand: (value is not MISSING) == bool(operand),
}


def _operator(name: str):
    if name not in OPERATORS:
        raise ServerError(2, f"unknown operator: {name}", misuse=False)
    return OPERATORS[name]


def updated(document: dict, update: dict, *, is_insert: bool = False) -> dict:
    """A new document; the given one stays as it is."""
    if isinstance(update, list):
        raise ServerError(238, "the stub has no pipeline updates", misuse=False)
    if not update or not next(iter(update)).startswith("$"):
        return {"_id": document["_id"], **update} if "_id" in document else dict(update)
    new = bson.decode(bson.encode(document))
    for operator, fields in update.items():
        if operator not in UPDATES:
            raise ServerError(9, f"Unknown modifier: {operator}", misuse=False)
        if operator != "$setOnInsert" or is_insert:
            for path, operand in fields.items():
                UPDATES[operator](*_place(new, path), operand)
    return new


def _place(document: dict, path: str) -> tuple[dict, str]:
    *steps, last = path.split(".")
    for step in steps:
        document = document.setdefault(step, {})
    return document, last


def _set(place: dict, name: str, operand) -> None:
    place[name] = operand


def _increase(place: dict, name: str, operand) -> None:
    place[name] = place.get(name, 0) + operand


UPDATES = {
    "$set": _set,
    "$setOnInsert": _set,
    "$inc": _increase,
    "$unset": lambda place, name, _: place.pop(name, None),
    "$push": lambda place, name, operand: place.setdefault(name, []).append(operand),
}


def seed_of(query: dict) -> dict:
    """The document an upsert begins with: the query's equalities."""
    return {
        field: value
        for field, value in query.items()
        if not field.startswith("$") and not (isinstance(value, dict) and "$" in "".join(value)[:1])
    }


def _rank(value) -> tuple:
    if value is MISSING or value is None:
        return (0, 0)
    if isinstance(value, bool):
        return (8, value)
    if isinstance(value, int | float):
        return (1, value)
    if isinstance(value, str):
        return (2, value)
    return (5, str(value))


def sort(documents: list[dict], order: dict) -> list[dict]:
    for field, direction in reversed(order.items()):
        documents = sorted(documents, key=lambda d: _rank(get(d, field)), reverse=direction < 0)
    return documents


def project(document: dict, fields: dict | None) -> dict:
    if not fields:
        return document
    chosen = {name for name, shown in fields.items() if shown}
    if chosen - {"_id"} or chosen and len(fields) == 1:
        chosen |= {"_id"} if fields.get("_id", 1) else set()
        return {name: value for name, value in document.items() if name in chosen}
    return {name: value for name, value in document.items() if name not in fields}


def evaluate(document: dict, expression):
    if isinstance(expression, str) and expression.startswith("$"):
        value = get(document, expression[1:])
        return None if value is MISSING else value
    return expression


def _group(documents: list[dict], spec: dict) -> list[dict]:
    groups: dict = {}
    for document in documents:
        identity = evaluate(document, spec["_id"])
        group = groups.setdefault(key_of(identity), {"_id": identity})
        for name, accumulator in spec.items():
            if name != "_id":
                if list(accumulator) != ["$sum"]:
                    raise ServerError(238, "the stub groups by $sum alone", misuse=False)
                group[name] = group.get(name, 0) + (evaluate(document, accumulator["$sum"]) or 0)
    return list(groups.values())


def _add_fields(documents: list[dict], spec: dict) -> list[dict]:
    return [{**d, **{name: evaluate(d, e) for name, e in spec.items()}} for d in documents]


STAGES = {
    "$match": lambda documents, query: [d for d in documents if matches(d, query)],
    "$group": _group,
    "$addFields": _add_fields,
    "$sort": sort,
    "$skip": lambda documents, count: documents[count:],
    "$limit": lambda documents, count: documents[:count],
    "$project": lambda documents, fields: [project(d, fields) for d in documents],
    "$count": lambda documents, name: [{name: len(documents)}] if documents else [],
}


def aggregate(documents: list[dict], pipeline: list[dict]) -> list[dict]:
    for stage in pipeline:
        name, spec = next(iter(stage.items()))
        if name not in STAGES:
            raise ServerError(40324, f"Unrecognized pipeline stage name: '{name}'", misuse=False)
        documents = STAGES[name](documents, spec)
    return documents
