// SPDX-License-Identifier: Apache-2.0

// The Go programs behind test_drivers.py, test_shedding.py, test_failover.py, ../../../soak,
// ../../../bench/failover.py and ../../../story, by argument "checks", "shedding", "failover",
// "soak", "pacing" or "story".
// ../../README.md has the lines they print.
package main

import "os"

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "checks":
		check()
	case len(os.Args) == 2 && os.Args[1] == "shedding":
		shedding()
	case len(os.Args) == 2 && os.Args[1] == "soak":
		soak()
	case len(os.Args) == 2 && os.Args[1] == "failover":
		failover()
	case len(os.Args) == 2 && os.Args[1] == "pacing":
		pacing()
	case len(os.Args) == 2 && os.Args[1] == "story":
		story()
	default:
		os.Exit(2)
	}
}
