// SPDX-License-Identifier: Apache-2.0

// badregistry is a reverse proxy in front of a registry that can do to blobs what networks and
// registries do on a bad day.
//
//	badregistry UPSTREAM-HOST:PORT
//
// It prints the address where it listens.
// /_control?mode=MODE&every=N&at=OFFSET&blob=DIGEST&rate=BYTES&login=USER:SECRET&all=1
// sets what happens from now on, and answers how often it has happened since the call before.
// With a login, who does not say it is answered 401.
// Every Nth request for a blob is hit; the others are answered as they should be, and without "all" so is
// what containerd's own client asks for.
//
//	ok     nothing
//	drop   the connection is reset in the middle of the body
//	cut    the body ends early, as if that were all
//	stall  the body stops in the middle until the client gives up
//	500    an answer with this status, at once
//	429    the same, with Retry-After: 1
//	mix    all of the above but stall, one after the other
//	flip   a byte is wrong: the one at OFFSET of the blob DIGEST, or the middle one of each body
//	dead   every connection is closed without an answer
//
// Two modes are for uploads (PUT) instead, of which every Nth is hit:
//
//	upload-cut   half of the body goes to the registry, then both connections are reset
//	upload-lost  all of it goes there, the answer does not come back
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const piece = 16 << 10

type faults struct {
	mode, blob string
	login      string
	every      int
	at         int64
	rate       int64
	all        bool
}

type proxy struct {
	upstream string
	mu       sync.Mutex
	faults   faults
	asked    int
	hit      int
	free     time.Time // when the link is free again
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "badregistry: wrong arguments, see the head of its source")
		os.Exit(2)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		fmt.Println(l.Addr())
		err = http.Serve(l, &proxy{upstream: os.Args[1], faults: faults{mode: "ok", every: 1}})
	}
	fmt.Fprintln(os.Stderr, "badregistry:", err)
	os.Exit(1)
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/_control" {
		p.control(w, r)
		return
	}
	f, mode := p.fate(r)
	if user, secret, _ := r.BasicAuth(); f.login != "" && user+":"+secret != f.login {
		w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
		http.Error(w, "who asks?", http.StatusUnauthorized)
		return
	}
	switch mode {
	case "dead":
		reset(w)
	case "500":
		http.Error(w, "the disk is full", http.StatusInternalServerError)
	case "429":
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
	default:
		p.pass(w, r, f, mode)
	}
}

func (p *proxy) control(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(w, "%d %d\n", p.hit, p.asked)
	p.hit, p.asked = 0, 0
	p.faults = faults{mode: q.Get("mode"), blob: q.Get("blob"), login: q.Get("login"), every: 1, at: -1,
		all: q.Get("all") != ""}
	if n, err := strconv.Atoi(q.Get("every")); err == nil && n > 0 {
		p.faults.every = n
	}
	if n, err := strconv.ParseInt(q.Get("at"), 10, 64); err == nil {
		p.faults.at = n
	}
	p.faults.rate, _ = strconv.ParseInt(q.Get("rate"), 10, 64)
}

// fate says what happens to this request. A byte at a place is wrong each time.
func (p *proxy) fate(r *http.Request) (faults, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.faults
	if f.mode == "dead" {
		p.hit++
		return f, "dead"
	}
	if strings.HasPrefix(f.mode, "upload-") {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/blobs/uploads/") {
			return f, "ok"
		}
		p.asked++
		if p.asked%f.every != 0 {
			return f, "ok"
		}
		p.hit++
		return f, f.mode
	}
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") ||
		!f.all && strings.HasPrefix(r.UserAgent(), "containerd/") {
		return f, "ok"
	}
	p.asked++
	if f.mode == "ok" || f.mode == "flip" && f.at >= 0 {
		return f, f.mode
	}
	if p.asked%f.every != 0 {
		return f, "ok"
	}
	p.hit++
	if f.mode == "mix" {
		return f, []string{"drop", "cut", "500", "429"}[p.hit%4]
	}
	return f, f.mode
}

func (p *proxy) pass(w http.ResponseWriter, r *http.Request, f faults, mode string) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.upstream, ""
	if mode == "upload-cut" {
		out.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, r.ContentLength/2), broken{}))
	}
	resp, err := http.DefaultTransport.RoundTrip(out)
	if strings.HasPrefix(mode, "upload-") {
		if err == nil {
			resp.Body.Close()
		}
		reset(w)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	n := resp.ContentLength
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	if mode == "cut" && n > 1 {
		n /= 2
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	w.WriteHeader(resp.StatusCode)
	if mode == "drop" || mode == "stall" {
		n /= 2
	}
	p.copy(w, resp, n, wrongByte(r, resp, f, mode), f)
	switch mode {
	case "drop":
		reset(w)
	case "stall":
		flush(w)
		<-r.Context().Done()
	}
}

// broken is a body that ends in the middle.
type broken struct{}

func (broken) Read([]byte) (int, error) {
	return 0, io.ErrUnexpectedEOF
}

// wrongByte is the place in the body, or -1.
func wrongByte(r *http.Request, resp *http.Response, f faults, mode string) int64 {
	if mode != "flip" {
		return -1
	}
	if f.at < 0 {
		return resp.ContentLength / 2
	}
	if !strings.HasSuffix(r.URL.Path, f.blob) {
		return -1
	}
	var from int64
	if resp.StatusCode == http.StatusPartialContent {
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err != nil {
			return -1
		}
	}
	return f.at - from
}

func (p *proxy) copy(w http.ResponseWriter, resp *http.Response, n, wrong int64, f faults) {
	buf := make([]byte, piece)
	for off := int64(0); n < 0 || off < n; {
		want := int64(piece)
		if n >= 0 && n-off < want {
			want = n - off
		}
		got, err := io.ReadFull(resp.Body, buf[:want])
		if wrong >= off && wrong < off+int64(got) {
			buf[wrong-off] ^= 0x20
			if f.at >= 0 {
				p.mu.Lock()
				p.hit++
				p.mu.Unlock()
			}
		}
		p.pace(int64(got), f.rate)
		if _, e := w.Write(buf[:got]); e != nil || err != nil {
			return
		}
		off += int64(got)
	}
}

// pace is one link for all.
func (p *proxy) pace(n, rate int64) {
	if rate <= 0 {
		return
	}
	p.mu.Lock()
	if now := time.Now(); p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(n * int64(time.Second) / rate))
	wait := time.Until(p.free)
	p.mu.Unlock()
	time.Sleep(wait)
}

func reset(w http.ResponseWriter) {
	flush(w)
	h, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	conn, _, err := h.Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
