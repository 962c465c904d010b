// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"sync"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
)

// unique makes names that no other run of this program has used.
var unique = fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())

func chainID(parts ...interface{}) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(fmt.Sprint(append(parts, unique)...))))
}

// each runs fn once for every client, all at the same time, and waits.
func each(clients []*client, fn func(i int, c *client)) {
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Add(1)
		go func(i int, c *client) {
			defer wg.Done()
			fn(i, c)
		}(i, c)
	}
	wg.Wait()
}

// makeChain commits depth snapshots above each other and returns their names, lowest first.
func makeChain(c *client, depth int) ([]string, error) {
	var names []string
	parent := ""
	for i := 0; i < depth; i++ {
		ref := chainID("chain", i)
		key := fmt.Sprintf("bench/%s/extract-%d %s", unique, i, ref)
		name := fmt.Sprintf("bench/%s/%s", unique, ref)
		if err := c.prepare(key, parent, nil); err != nil {
			return names, err
		}
		if err := c.commit(name, key, nil); err != nil {
			return names, err
		}
		names = append(names, name)
		parent = name
	}
	return names, nil
}

// window says which moments count. It is the same for all clients.
type window struct{ from, to time.Time }

func runCycle(o options) (*result, error) {
	clients, closeAll, err := dialClients(o, o.clients)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	clients[0].record = false
	parents, err := makeChain(clients[0], o.chain)
	if err != nil {
		return nil, fmt.Errorf("make parents: %w", err)
	}
	parent := ""
	if len(parents) > 0 {
		parent = parents[len(parents)-1]
	}
	var w window
	w.from = time.Now().Add(o.warmup)
	w.to = w.from.Add(o.duration)
	counts := make([]int, len(clients))
	each(clients, func(i int, c *client) { counts[i] = cycleUntil(c, i, parent, w, o.use) })

	total := 0
	for _, n := range counts {
		total += n
	}
	r := gather(o, clients, o.duration, total)
	for i := len(parents) - 1; i >= 0; i-- {
		if err := clients[0].remove(parents[i]); err != nil {
			return nil, fmt.Errorf("remove parents: %w", err)
		}
	}
	return r, nil
}

// cycleUntil counts the cycles that end inside the window. A client that meets an error stops.
func cycleUntil(c *client, id int, parent string, w window, used bool) (count int) {
	for n := 0; ; n++ {
		start := time.Now()
		if !start.Before(w.to) {
			return count
		}
		c.record = !start.Before(w.from)
		key := fmt.Sprintf("bench/%s/key-%d-%d", unique, id, n)
		name := fmt.Sprintf("bench/%s/name-%d-%d", unique, id, n)
		mounts, err := c.prepareMounts(key, parent, nil)
		if err == nil && used {
			if err = use(mounts); err != nil {
				c.errors["use"]++
				c.first = err
			}
		}
		if err != nil || c.commit(name, key, nil) != nil || c.remove(name) != nil {
			return count
		}
		end := time.Now()
		c.add("cycle", end.Sub(start))
		if !end.Before(w.from) && end.Before(w.to) {
			count++
		}
	}
}

// runFill makes o.count committed snapshots in chains of o.depth. Every client makes whole chains.
func runFill(o options) (*result, error) {
	clients, closeAll, err := dialClients(o, o.clients)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	chains := make(chan int)
	go func() {
		for i := 0; i*o.depth < o.count; i++ {
			chains <- i
		}
		close(chains)
	}()
	stop := make(chan struct{})
	var once sync.Once
	counts := make([]int, len(clients))
	start := time.Now()
	each(clients, func(i int, c *client) {
		for chain := range chains {
			select {
			case <-stop: // somebody failed: only empty the channel
				continue
			default:
			}
			n, err := fillChain(c, chain, o)
			counts[i] += n
			if err != nil {
				once.Do(func() { close(stop) })
			}
		}
	})
	total := 0
	for _, n := range counts {
		total += n
	}
	return gather(o, clients, time.Since(start), total), nil
}

func fillChain(c *client, chain int, o options) (count int, err error) {
	parent := ""
	for i := 0; i < o.depth && chain*o.depth+i < o.count; i++ {
		ref := chainID("fill", chain, i)
		labels := map[string]string{refLabel: ref}
		number := chain*o.depth + i
		key := fmt.Sprintf("default/%d/extract-%09d-fill %s", 2*number+1, number, ref)
		name := fmt.Sprintf("default/%d/%s", 2*number+2, ref)
		if err := c.prepare(key, parent, labels); err != nil {
			return count, err
		}
		if err := c.commit(name, key, labels); err != nil {
			return count, err
		}
		parent = name
		count++
	}
	return count, nil
}

// runOps makes one call after the other: the price of each kind, with nothing else going on.
func runOps(o options) (*result, error) {
	clients, closeAll, err := dialClients(o, 1)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	c := clients[0]
	c.record = false
	parents, err := makeChain(c, o.chain)
	if err != nil {
		return nil, fmt.Errorf("make parents: %w", err)
	}
	parent := ""
	if len(parents) > 0 {
		parent = parents[len(parents)-1]
	}
	warmup := o.count / 10
	start := time.Now()
	done := 0
	for i := 0; i < warmup+o.count; i++ {
		c.record = i >= warmup
		if i == warmup {
			start = time.Now()
		}
		if opsOnce(c, parent, i) != nil {
			return gather(o, clients, time.Since(start), done), nil
		}
		if i >= warmup {
			done++
		}
	}
	took := time.Since(start)
	present := 0
	for i := 0; i < o.lists; i++ {
		if present, err = c.list("List"); err != nil {
			break
		}
		// The one filter that containerd sends, here for a reference that nobody has.
		filter := fmt.Sprintf(`labels."%s"==%s,parent==""`, refLabel, chainID("absent", i))
		if _, err = c.list("ListRef", filter); err != nil {
			break
		}
	}
	r := gather(o, clients, took, done)
	r.Present = present
	return r, nil
}

func opsOnce(c *client, parent string, i int) error {
	ref := chainID("ops", i)
	key := fmt.Sprintf("bench/%s/key-%d", unique, i)
	name := fmt.Sprintf("bench/%s/name-%d", unique, i)
	view := fmt.Sprintf("bench/%s/view-%d", unique, i)
	steps := []func() error{
		func() error { return c.prepare(key, parent, nil) },
		func() error { return c.mounts(key) },
		func() error { return c.stat(key) },
		func() error { return c.commit(name, key, map[string]string{refLabel: ref}) },
		func() error { return c.view(view, name) },
		func() error { return c.removeAs("RemoveView", view) },
		func() error { return c.remove(name) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func runCleanup(o options) (*result, error) {
	clients, closeAll, err := dialClients(o, 1)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	start := time.Now()
	err = clients[0].call("Cleanup", func(ctx context.Context) error {
		_, err := clients[0].api.Cleanup(ctx, &snapshotsapi.CleanupRequest{Snapshotter: snapshotter})
		return err
	})
	return gather(o, clients, time.Since(start), 1), err
}
