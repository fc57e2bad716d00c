// Prints the first primes.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

var version = "dev"

func primes(count int) []string {
	var found []string
	for n := 2; len(found) < count; n++ {
		prime := true
		for d := 2; d*d <= n; d++ {
			if n%d == 0 {
				prime = false
				break
			}
		}
		if prime {
			found = append(found, strconv.Itoa(n))
		}
	}
	return found
}

func main() {
	count, err := strconv.Atoi(os.Args[len(os.Args)-1])
	if err != nil || len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: primes COUNT")
		os.Exit(2)
	}
	fmt.Printf("primes %s: %s\n", version, strings.Join(primes(count), " "))
}
