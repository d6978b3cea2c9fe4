// SPDX-License-Identifier: Apache-2.0

// The Go programs behind test_drivers.py and test_shedding.py, by argument "checks" or "shedding".
// ../../README.md has the lines they print.
package main

import "os"

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "checks":
		check()
	case len(os.Args) == 2 && os.Args[1] == "shedding":
		shedding()
	default:
		os.Exit(2)
	}
}
