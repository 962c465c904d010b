// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func must(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

func connect(socket string) net.Conn {
	conn, err := net.Dial("unix", socket)
	must(err)
	return conn
}

// ended waits until the other side has closed.
func ended(conn net.Conn, limit time.Duration) bool {
	conn.SetReadDeadline(time.Now().Add(limit))
	_, err := io.Copy(io.Discard, conn)
	ne, ok := err.(net.Error)
	return !ok || !ne.Timeout()
}

// garbage must end its connections, at once.
func garbage(socket string) {
	random := rand.New(rand.NewSource(1))
	for i := 0; i < 200; i++ {
		conn := connect(socket)
		b := make([]byte, 1+random.Intn(100000))
		random.Read(b)
		if i%2 == 1 { // behind what looks well
			b = append([]byte(http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"), b...)
		}
		conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
		conn.Write(b)
		conn.(*net.UnixConn).CloseWrite()
		if !ended(conn, 5*time.Second) {
			log.Fatalf("FAILED: garbage %d: the connection stays open", i)
		}
		conn.Close()
	}
}

// silent says nothing, and is sent away after the handshake's time.
func silent(socket string) {
	conn := connect(socket)
	start := time.Now()
	if !ended(conn, 20*time.Second) {
		log.Fatal("FAILED: a connection that says nothing stays open")
	}
	fmt.Printf("sent away after %.1f s\n", time.Since(start).Seconds())
}

// idle opens n connections that have said hello and no more, tells how many were accepted, and stays
// until its stdin ends.
func idle(socket string, n int) {
	var open []net.Conn
	refused := 0
	for i := 0; i < n; i++ {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			refused++
			continue
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = conn.Write([]byte(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, 9))
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			log.Fatalf("FAILED: connection %d is neither served nor refused", i)
		}
		if err != nil {
			refused++
			conn.Close()
			continue
		}
		open = append(open, conn)
	}
	fmt.Printf("served %d refused %d\n", len(open), refused)
	io.Copy(io.Discard, os.Stdin)
}

// streams asks for n lists on one connection and never gives room for an answer; it stays until its
// stdin ends.
func streams(socket string, n int) {
	conn := connect(socket)
	var block bytes.Buffer
	_, err := conn.Write([]byte(http2.ClientPreface))
	must(err)
	framer := http2.NewFramer(conn, conn)
	must(framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	enc := hpack.NewEncoder(&block)
	for i := 0; i < n; i++ {
		block.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "localhost"},
			{":path", "/containerd.services.snapshots.v1.Snapshots/List"},
			{"content-type", "application/grpc"}, {"te", "trailers"}} {
			must(enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
		}
		id := uint32(2*i + 1)
		must(framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}))
		must(framer.WriteData(id, true, make([]byte, 5)))
	}
	fmt.Println("asked")
	io.Copy(io.Discard, os.Stdin)
}

// activate runs a program with SOCKET as its third descriptor, as systemd does for a socket unit.
func activate(socket string, args []string) {
	l, err := net.Listen("unix", socket)
	must(err)
	f, err := l.(*net.UnixListener).File()
	must(err)
	must(syscall.Dup3(int(f.Fd()), 3, 0))
	must(syscall.Exec(args[0], args, append(os.Environ(), "LISTEN_FDS=1", fmt.Sprint("LISTEN_PID=", os.Getpid()))))
}

func notify(socket string) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(err)
	b := make([]byte, 4096)
	for {
		n, err := conn.Read(b)
		must(err)
		fmt.Println(string(b[:n]))
	}
}
