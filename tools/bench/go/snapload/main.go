// SPDX-License-Identifier: Apache-2.0

// Command snapload puts load on a snapshots service over its unix socket, with the raw generated
// client, and reports rates and exact latency percentiles.
//
// Modes:
//
//	cycle    every client loops Prepare, Commit, Remove for a given time
//	fill     makes N committed snapshots, named and labelled as a pull does it
//	ops      one client, one call at a time: what does each kind of call cost
//	cleanup  one Cleanup call
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

type options struct {
	mode     string
	address  string
	clients  int
	conns    string
	duration time.Duration
	warmup   time.Duration
	chain    int
	count    int
	depth    int
	lists    int
	timeout  time.Duration
	use      bool
	json     bool
	tags     tags
}

// tags are key=value pairs that are copied into the JSON line.
type tags map[string]interface{}

func (t tags) String() string { return "" }

func (t tags) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("not KEY=VALUE")
	}
	if n, err := strconv.ParseFloat(value, 64); err == nil {
		t[key] = n
	} else {
		t[key] = value
	}
	return nil
}

func parseOptions() options {
	o := options{tags: tags{}}
	var seconds, warmup float64
	flag.StringVar(&o.mode, "mode", "cycle", "cycle, fill, ops or cleanup")
	flag.StringVar(&o.address, "address", "", "unix socket of the service")
	flag.IntVar(&o.clients, "clients", 1, "clients at the same time (cycle, fill)")
	flag.StringVar(&o.conns, "conns", "shared", "shared: one connection, as containerd; own: one a client")
	flag.Float64Var(&seconds, "seconds", 5, "time that is measured (cycle)")
	flag.Float64Var(&warmup, "warmup", 1, "seconds before that (cycle)")
	flag.IntVar(&o.chain, "chain", 0, "cycle above a chain of this many committed parents")
	flag.BoolVar(&o.use, "use", false, "write a file into each snapshot, as through a mount (cycle)")
	flag.IntVar(&o.count, "count", 1000, "snapshots to make (fill), rounds (ops)")
	flag.IntVar(&o.depth, "depth", 10, "length of a chain that fill makes")
	flag.IntVar(&o.lists, "lists", 5, "List calls at the end (ops)")
	flag.DurationVar(&o.timeout, "timeout", time.Minute, "deadline of a call")
	flag.BoolVar(&o.json, "json", false, "print one JSON line instead of text")
	flag.Var(o.tags, "tag", "KEY=VALUE to copy into the JSON line; may be repeated")
	flag.Parse()
	o.duration = time.Duration(seconds * float64(time.Second))
	o.warmup = time.Duration(warmup * float64(time.Second))
	if o.address == "" || flag.NArg() != 0 || (o.conns != "shared" && o.conns != "own") ||
		o.clients < 1 || o.count < 1 || o.depth < 1 {
		flag.Usage()
		os.Exit(2)
	}
	return o
}

func main() {
	o := parseOptions()
	var res *result
	var err error
	switch o.mode {
	case "cycle":
		res, err = runCycle(o)
	case "fill":
		res, err = runFill(o)
	case "ops":
		res, err = runOps(o)
	case "cleanup":
		res, err = runCleanup(o)
	default:
		err = fmt.Errorf("unknown mode %q", o.mode)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "snapload:", err)
		os.Exit(1)
	}
	if o.json {
		err = json.NewEncoder(os.Stdout).Encode(res)
	} else {
		res.print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "snapload:", err)
		os.Exit(1)
	}
	if res.failed() {
		os.Exit(1)
	}
}
