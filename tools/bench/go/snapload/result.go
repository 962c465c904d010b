// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"sort"
	"time"
)

// latency is a summary of samples; the percentiles are exact.
type latency struct {
	N     int     `json:"n"`
	P50us float64 `json:"p50_us"`
	P99us float64 `json:"p99_us"`
	Maxus float64 `json:"max_us"`
}

type result struct {
	Tags     tags               `json:"tags"`
	Mode     string             `json:"mode"`
	Clients  int                `json:"clients"`
	Conns    string             `json:"conns"`
	Chain    int                `json:"chain"`
	Time     string             `json:"time"`
	Seconds  float64            `json:"seconds"`
	Count    int                `json:"count"` // cycles, or snapshots made
	Rate     float64            `json:"rate"`  // Count / Seconds
	Present  int                `json:"present,omitempty"`
	Latency  map[string]latency `json:"latency"`
	Errors   map[string]int     `json:"errors"`
	FirstErr string             `json:"first_error,omitempty"`
}

func summarize(samples []time.Duration) latency {
	if len(samples) == 0 {
		return latency{}
	}
	sort.Slice(samples, func(i, j int) bool { return samples[i] < samples[j] })
	at := func(percent int) float64 {
		i := (len(samples)*percent + 99) / 100 // nearest rank, counted from 1
		return micros(samples[i-1])
	}
	return latency{len(samples), at(50), at(99), micros(samples[len(samples)-1])}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// gather merges what the clients have measured.
func gather(o options, clients []*client, took time.Duration, count int) *result {
	r := &result{Tags: o.tags, Mode: o.mode, Clients: len(clients), Conns: o.conns, Chain: o.chain,
		Time:    time.Now().UTC().Format(time.RFC3339),
		Seconds: took.Seconds(), Count: count, Rate: float64(count) / took.Seconds(),
		Latency: map[string]latency{}, Errors: map[string]int{}}
	samples := map[string][]time.Duration{}
	for _, c := range clients {
		for name, s := range c.samples {
			samples[name] = append(samples[name], s...)
		}
		for name, n := range c.errors {
			r.Errors[name] += n
		}
		if c.first != nil && r.FirstErr == "" {
			r.FirstErr = c.first.Error()
		}
	}
	for name, s := range samples {
		r.Latency[name] = summarize(s)
	}
	return r
}

func (r *result) failed() bool { return len(r.Errors) > 0 || r.Count == 0 }

func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d clients, connection %s, %.1f s: %d done, %.0f/s\n",
		r.Mode, r.Clients, r.Conns, r.Seconds, r.Count, r.Rate)
	names := make([]string, 0, len(r.Latency))
	for name := range r.Latency {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		l := r.Latency[name]
		fmt.Fprintf(w, "  %-12s %7d  p50 %9.0f us  p99 %9.0f us  max %9.0f us\n",
			name, l.N, l.P50us, l.P99us, l.Maxus)
	}
	for name, n := range r.Errors {
		fmt.Fprintf(w, "  failed: %s: %d\n", name, n)
	}
	if r.FirstErr != "" {
		fmt.Fprintf(w, "  first failure: %s\n", r.FirstErr)
	}
}
