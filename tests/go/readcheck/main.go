// SPDX-License-Identifier: Apache-2.0

// readcheck reads trees and compares every byte with a copy that is known to be right.
//
//	readcheck COPY TREE...
//
// All trees are read at once, each in an order of its own. It prints a line:
// trees files bytes errors wrong longest-read-in-ms, and to standard error what was wrong where.
// After an error the next read is STEP further on. The exit status is 0 if each read had an end:
// what the counts may be is for the caller to say.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const step = 64 << 10

type counts struct {
	files, errors, wrong int
	bytes                int64
	longest              time.Duration
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "readcheck: wrong arguments, see the head of its source")
		os.Exit(2)
	}
	names, err := regularFiles(os.Args[1])
	if err != nil || len(names) == 0 {
		fmt.Fprintln(os.Stderr, "readcheck: no copy:", err)
		os.Exit(1)
	}
	trees := os.Args[2:]
	all := make([]counts, len(trees))
	var wg sync.WaitGroup
	for i := range trees {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			for k := range names {
				name := names[(k+i*len(names)/len(trees))%len(names)]
				all[i].compare(filepath.Join(os.Args[1], name), filepath.Join(trees[i], name))
			}
		}(i)
	}
	wg.Wait()
	var sum counts
	for _, c := range all {
		sum.files += c.files
		sum.errors += c.errors
		sum.wrong += c.wrong
		sum.bytes += c.bytes
		sum.took(c.longest)
	}
	fmt.Println(len(trees), sum.files, sum.bytes, sum.errors, sum.wrong, sum.longest.Milliseconds())
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
	c.files++
	want, err := os.ReadFile(right)
	if err != nil {
		c.fail(path, 0, err)
		return
	}
	began := time.Now()
	f, err := os.Open(path)
	c.took(time.Since(began))
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
		began := time.Now()
		n, err := f.ReadAt(buf[:len(part)], int64(off))
		c.took(time.Since(began))
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
