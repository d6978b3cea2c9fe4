// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// lacking is what the server has not: the check is skipped.
type lacking string

func (feature lacking) Error() string { return "the server has no " + string(feature) }

func need(feature string) {
	for _, present := range strings.Fields(os.Getenv("FEATURES")) {
		if present == feature {
			return
		}
	}
	panic(lacking(feature))
}

// must and equal end a check by panic; run turns that into its line.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(seen, wanted any) {
	if !reflect.DeepEqual(seen, wanted) {
		panic(fmt.Errorf("%v instead of %v", seen, wanted))
	}
}

func threads() int {
	count, err := strconv.Atoi(os.Getenv("THREADS"))
	must(err)
	return count
}

// told is what an app can tell of an error.
type told struct {
	Code     int      `json:"code"`
	CodeName *string  `json:"codeName"`
	Message  string   `json:"message"`
	Labels   []string `json:"labels"`
}

func describe(err error) told {
	var command mongo.CommandError
	if errors.As(err, &command) {
		return told{int(command.Code), &command.Name, command.Message, sorted(command.Labels)}
	}
	var write mongo.WriteException
	if errors.As(err, &write) && len(write.WriteErrors) > 0 {
		first := write.WriteErrors[0]
		return told{first.Code, nil, first.Message, sorted(write.Labels)}
	}
	panic(fmt.Errorf("not an error of the server's: %v", err))
}

func sorted(texts []string) []string {
	all := append([]string{}, texts...)
	sort.Strings(all)
	return all
}

func run(name string, check func() any) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case lacking:
			fmt.Printf("skip %s: %v\n", name, reason)
		default:
			fmt.Printf("not ok %s: %s\n", name, strings.ReplaceAll(fmt.Sprint(reason), "\n", " "))
		}
	}()
	facts, err := json.Marshal(check())
	must(err)
	fmt.Printf("ok %s %s\n", name, strings.TrimSuffix(string(facts), "null"))
}
