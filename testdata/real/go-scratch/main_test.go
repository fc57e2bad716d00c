package main

import (
	"strings"
	"testing"
)

func TestPrimes(t *testing.T) {
	if got := strings.Join(primes(5), " "); got != "2 3 5 7 11" {
		t.Fatal(got)
	}
}
