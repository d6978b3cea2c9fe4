// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Where version 1 of the driver is another: ../v1/driver.go has the same functions.

func connect(how *options.ClientOptions) (*mongo.Client, error) { return mongo.Connect(how) }

func dropIndex(ctx context.Context, collection *mongo.Collection, name string) error {
	return collection.Indexes().DropOne(ctx, name)
}

func insertUnacknowledged(ctx context.Context, silent *mongo.Collection, document any) error {
	result, err := silent.InsertOne(ctx, document)
	if err == nil && result.Acknowledged {
		return fmt.Errorf("an acknowledged write")
	}
	return err
}
