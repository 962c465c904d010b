// SPDX-License-Identifier: Apache-2.0

// readcheck reads trees and compares every byte with a copy that is known to be right.
//
//	readcheck [-limit DURATION] COPY TREE...
//
// All trees are read at once, each in an order of its own. It prints a line:
// trees files bytes errors wrong longest-read-in-ms, and to standard error what was wrong where.
// After an error the next read is STEP further on. What has not been read when the limit is over counts as
// an error, a file each; without a limit it takes as long as the reads take. The exit status is 0 if each read had an end:
// what the counts may be is for the caller to say.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const step = 64 << 10

// counts of one tree. The lock is free only while a read waits.
type counts struct {
	mu                   sync.Mutex
	files, errors, wrong int
	bytes                int64
	longest              time.Duration
	began                time.Time // the read that waits; zero if none does
}

func main() {
	limit := flag.Duration("limit", 0, "how `long` to read at most")
	flag.Parse()
	if flag.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "readcheck: wrong arguments, see the head of its source")
		os.Exit(2)
	}
	names, err := regularFiles(flag.Arg(0))
	if err != nil || len(names) == 0 {
		fmt.Fprintln(os.Stderr, "readcheck: no copy:", err)
		os.Exit(1)
	}
	trees := flag.Args()[1:]
	all := make([]counts, len(trees))
	var wg sync.WaitGroup
	for i := range trees {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			for k := range names {
				name := names[(k+i*len(names)/len(trees))%len(names)]
				all[i].compare(filepath.Join(flag.Arg(0), name), filepath.Join(trees[i], name))
			}
		}(i)
	}
	await(&wg, *limit)
	var sum counts
	for i := range all {
		c := &all[i]
		c.mu.Lock() // for good: what still waits is not to change it
		c.giveUp(len(names))
		sum.files += c.files
		sum.errors += c.errors
		sum.wrong += c.wrong
		sum.bytes += c.bytes
		sum.took(c.longest)
	}
	fmt.Println(len(trees), sum.files, sum.bytes, sum.errors, sum.wrong, sum.longest.Milliseconds())
}

// await waits until all is read, or the limit is over.
func await(wg *sync.WaitGroup, limit time.Duration) {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	var over <-chan time.Time
	if limit > 0 {
		over = time.After(limit)
	}
	select {
	case <-done:
	case <-over:
	}
}

// giveUp counts what has not been read.
func (c *counts) giveUp(files int) {
	c.errors += files - c.files
	c.files = files
	if !c.began.IsZero() {
		c.errors++
		c.took(time.Since(c.began))
	}
}

// wait does what may take its time.
func (c *counts) wait(read func()) {
	c.began = time.Now()
	c.mu.Unlock()
	read()
	c.mu.Lock()
	c.took(time.Since(c.began))
	c.began = time.Time{}
}

func regularFiles(top string) (names []string, err error) {
	err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			path, err = filepath.Rel(top, path)
			names = append(names, path)
		}
		return err
	})
	return names, err
}

func (c *counts) compare(right, path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files++
	want, err := os.ReadFile(right)
	if err != nil {
		c.fail(path, 0, err)
		return
	}
	var f *os.File
	c.wait(func() { f, err = os.Open(path) })
	if err != nil {
		c.fail(path, 0, err)
		return
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() != int64(len(want)) {
		c.wrong++
		fmt.Fprintln(os.Stderr, "wrong size:", path)
		return
	}
	c.blocks(f, path, want)
}

func (c *counts) blocks(f *os.File, path string, want []byte) {
	buf := make([]byte, step)
	for off := 0; off < len(want); off += step {
		part := want[off:]
		if len(part) > step {
			part = part[:step]
		}
		var n int
		var err error
		c.wait(func() { n, err = f.ReadAt(buf[:len(part)], int64(off)) })
		c.bytes += int64(n)
		if err != nil {
			c.fail(path, off+n, err)
		}
		if !bytes.Equal(buf[:n], part[:n]) {
			c.wrong++
			fmt.Fprintln(os.Stderr, "wrong bytes:", path, off)
		}
	}
}

func (c *counts) fail(path string, off int, err error) {
	c.errors++
	var e *fs.PathError
	if errors.As(err, &e) {
		err = e.Err
	}
	fmt.Fprintf(os.Stderr, "error: %s %d: %v\n", path, off, err)
}

func (c *counts) took(t time.Duration) {
	if t > c.longest {
		c.longest = t
	}
}
