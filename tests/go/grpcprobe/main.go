// SPDX-License-Identifier: Apache-2.0

// grpcprobe is Go's gRPC library as a peer for grpc_echo: `client SOCKET` calls our server,
// `keepalive SOCKET` and `drain SOCKET PID` do so for longer, `serve SOCKET` and `servezip SOCKET` are called by our
// client, `bench SOCKET CALLS PARALLEL` measures our server.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const text = "100 % schön €\n\ttab and \x7f"

// raw carries messages as bytes.
type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v interface{}) error {
	*v.(*[]byte) = append([]byte{}, data...)
	return nil
}
func (raw) Name() string { return "raw" }

func numbers(v ...uint32) []byte {
	var b bytes.Buffer
	for _, n := range v {
		binary.Write(&b, binary.BigEndian, n)
	}
	return b.Bytes()
}

func number(b []byte, i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }

func check(ok bool, what string, v ...interface{}) {
	if !ok {
		log.Output(2, fmt.Sprintf("FAILED: "+what, v...))
		os.Exit(1)
	}
}

// --- client ---------------------------------------------------------------------------------------

func dial(socket string, opts ...grpc.DialOption) *grpc.ClientConn {
	opts = append([]grpc.DialOption{grpc.WithInsecure(), grpc.WithBlock(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return net.Dial("unix", socket)
		})}, opts...)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cc, err := grpc.DialContext(ctx, "localhost", opts...)
	check(err == nil, "dial: %v", err)
	return cc
}

func call(ctx context.Context, cc *grpc.ClientConn, method string, req []byte, opts ...grpc.CallOption) ([]byte, error) {
	var resp []byte
	err := cc.Invoke(ctx, "/echo.Echo/"+method, &req, &resp, opts...)
	return resp, err
}

func stat(cc *grpc.ClientConn) (cancelled, cpuUs uint32) {
	b, err := call(context.Background(), cc, "Stat", nil)
	check(err == nil, "stat: %v", err)
	return number(b, 0), number(b, 1)
}

func stream(ctx context.Context, cc *grpc.ClientConn, method string) grpc.ClientStream {
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/echo.Echo/"+method)
	check(err == nil, "%s: %v", method, err)
	return s
}

func unary(cc *grpc.ClientConn) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "some-key", "some value", "x-bin", "\x00\xff")
	for _, n := range []int{0, 1, 16384, 65531, 65536, 300000, 1 << 20} {
		req := bytes.Repeat([]byte{'x'}, n)
		resp, err := call(ctx, cc, "Unary", req)
		check(err == nil && bytes.Equal(resp, req), "unary %d: %v", n, err)
	}
	_, err := call(ctx, cc, "Unary", make([]byte, 1<<20+1))
	check(status.Code(err) == codes.ResourceExhausted, "too large: %v", err)
	_, err = call(ctx, cc, "Unary", []byte("zip"), grpc.UseCompressor(gzip.Name))
	check(status.Code(err) == codes.Unimplemented, "compressed: %v", err)
	_, err = call(ctx, cc, "None", nil)
	check(status.Code(err) == codes.Unimplemented, "unknown method: %v", err)
	check(strings.Contains(status.Convert(err).Message(), "/echo.Echo/None"), "unknown method: %v", err)
}

// The server's limit is 16 KiB of names and values.
func metadatas(cc *grpc.ClientConn) {
	for _, size := range []int{1, 100, 8000, 15000, 17000, 100000} {
		ctx := metadata.AppendToOutgoingContext(context.Background(), "some-key", strings.Repeat("v", size))
		resp, err := call(ctx, cc, "Unary", []byte("hello"))
		if size < 16<<10 {
			check(err == nil && string(resp) == "hello", "%d bytes of metadata: %v", size, err)
		} else {
			check(err != nil, "%d bytes of metadata are taken", size)
		}
	}
}

// large is one message of 16 MiB from the server, and the same a byte above this client's limit.
func large(cc *grpc.ClientConn) {
	for over := uint32(0); over < 2; over++ {
		var msg []byte
		s, err := cc.NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true}, "/echo.Echo/Stream",
			grpc.MaxCallRecvMsgSize(16<<20))
		check(err == nil, "large: %v", err)
		req := numbers(1, 16<<20+over)
		check(s.SendMsg(&req) == nil && s.CloseSend() == nil, "large: send")
		err = s.RecvMsg(&msg)
		if over == 0 {
			check(err == nil && len(msg) == 16<<20, "large: %d %v", len(msg), err)
			check(s.RecvMsg(&msg) == io.EOF, "large: end")
		} else {
			check(status.Code(err) == codes.ResourceExhausted, "above the limit: %v", err)
		}
	}
}

func failures(cc *grpc.ClientConn) {
	for c := codes.Code(1); c <= 16; c++ {
		_, err := call(context.Background(), cc, "Fail", append(numbers(uint32(c)), text...))
		check(status.Code(err) == c && status.Convert(err).Message() == text, "fail %d: %v", c, err)
	}
}

func streams(cc *grpc.ClientConn) {
	s := stream(context.Background(), cc, "Stream")
	req, msg := numbers(50000, 100), []byte(nil)
	check(s.SendMsg(&req) == nil && s.CloseSend() == nil, "stream: send")
	for i := uint32(0); i < 50000; i++ {
		err := s.RecvMsg(&msg)
		check(err == nil && len(msg) == 100 && number(msg, 0) == i, "message %d: %v", i, err)
	}
	check(s.RecvMsg(&msg) == io.EOF, "stream: end")

	s = stream(context.Background(), cc, "Stream")
	req = numbers(0, 0)
	check(s.SendMsg(&req) == nil && s.CloseSend() == nil, "empty stream: send")
	check(s.RecvMsg(&msg) == io.EOF, "empty stream: end")

	s = stream(context.Background(), cc, "Bidi")
	go func() {
		for i := uint32(0); i < 2000; i++ {
			req := append(numbers(i), make([]byte, i)...)
			check(s.SendMsg(&req) == nil, "bidi: send")
		}
		s.CloseSend()
	}()
	for i := uint32(0); i < 2000; i++ {
		err := s.RecvMsg(&msg)
		check(err == nil && len(msg) == int(4+i) && number(msg, 0) == i, "bidi message %d: %v", i, err)
	}
	check(s.RecvMsg(&msg) == io.EOF, "bidi: end")
}

func cancels(cc *grpc.ClientConn) {
	before, _ := stat(cc)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	_, err := call(ctx, cc, "Sleep", numbers(60000))
	check(status.Code(err) == codes.DeadlineExceeded, "deadline: %v", err)
	cancel()
	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	_, err = call(ctx, cc, "Sleep", numbers(60000))
	check(status.Code(err) == codes.Canceled, "cancel: %v", err)
	time.Sleep(100 * time.Millisecond)
	after, _ := stat(cc)
	check(after == before+2, "%d handlers were cancelled", after-before)
	ctx, cancel = context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	_, err = call(ctx, cc, "Unary", nil)
	check(status.Code(err) == codes.DeadlineExceeded, "past deadline: %v", err)
	cancel()

	// a stream that nobody reads is given up
	ctx, cancel = context.WithCancel(context.Background())
	s := stream(ctx, cc, "Stream")
	req, msg := numbers(50000, 1000), []byte(nil)
	check(s.SendMsg(&req) == nil && s.RecvMsg(&msg) == nil, "stream")
	cancel()
	_, err = call(context.Background(), cc, "Unary", nil)
	check(err == nil, "after cancel: %v", err)
}

// parallel has more calls at once than one connection has streams.
func parallel(cc *grpc.ClientConn, calls int) {
	var wg sync.WaitGroup
	for i := 0; i < calls; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := call(context.Background(), cc, "Sleep", numbers(20))
			check(err == nil, "parallel: %v", err)
		}()
	}
	wg.Wait()
}

// connections: each with a few calls and two streams of both directions.
func connections(socket string, n int) {
	var wg sync.WaitGroup
	for i := 0; i < n; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			cc := dial(socket)
			defer cc.Close()
			parallel(cc, 20)
			for j := 0; j < 2; j++ {
				s, msg := stream(context.Background(), cc, "Bidi"), []byte(nil)
				for k := 0; k < 50; k++ {
					req := numbers(uint32(i), uint32(j), uint32(k))
					check(s.SendMsg(&req) == nil && s.RecvMsg(&msg) == nil && bytes.Equal(req, msg),
						"connection %d", i)
				}
				check(s.CloseSend() == nil && s.RecvMsg(&msg) == io.EOF, "connection %d: end", i)
			}
		}(i)
	}
	wg.Wait()
}

func client(socket string) {
	cc := dial(socket)
	unary(cc)
	metadatas(cc)
	failures(cc)
	streams(cc)
	large(cc)
	cancels(cc)
	parallel(cc, 1000)
	connections(socket, 100)
	parallel(cc, 1)
	check(cc.GetState() == connectivity.Ready, "the first connection was lost")
	cc.Close()
	fmt.Println("client: all is well")
}

// pings are the two sides' PING frames, counted in what goes over the socket.
type pings struct {
	net.Conn
	sent, acks int32
}

func (p *pings) Write(b []byte) (int, error) {
	// the library writes a whole frame at once: 8 bytes, type 6, no flags, stream 0
	atomic.AddInt32(&p.sent, int32(bytes.Count(b, []byte{0, 0, 8, 6, 0, 0, 0, 0, 0})))
	return p.Conn.Write(b)
}

func (p *pings) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	atomic.AddInt32(&p.acks, int32(bytes.Count(b[:n], []byte{0, 0, 8, 6, 1, 0, 0, 0, 0})))
	return n, err
}

// keepalivePings waits longer than the library's shortest keepalive time, in a call and without one.
func keepalivePings(socket string) {
	var wg sync.WaitGroup
	for _, busy := range []bool{false, true} {
		wg.Add(1)
		go func(busy bool) {
			defer wg.Done()
			p := &pings{}
			cc := dial(socket, grpc.WithKeepaliveParams(keepalive.ClientParameters{
				Time: 10 * time.Second, Timeout: time.Second, PermitWithoutStream: true}),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (c net.Conn, err error) {
					check(p.Conn == nil, "keepalive: the connection was lost")
					p.Conn, err = net.Dial("unix", socket)
					return p, err
				}))
			if busy {
				_, err := call(context.Background(), cc, "Sleep", numbers(12500))
				check(err == nil, "keepalive: %v", err)
			} else {
				time.Sleep(12500 * time.Millisecond)
			}
			parallel(cc, 1)
			time.Sleep(200 * time.Millisecond) // the library pings when data comes, too
			sent, acks := atomic.LoadInt32(&p.sent), atomic.LoadInt32(&p.acks)
			check(sent > 0 && acks == sent, "keepalive: %d pings, %d answers", sent, acks)
			cc.Close()
		}(busy)
	}
	wg.Wait()
	fmt.Println("keepalive: all is well")
}

// drain has calls in flight while the server is told to end.
func drain(socket string, pid int) {
	var wg sync.WaitGroup
	cc := dial(socket)
	s, msg := stream(context.Background(), cc, "Bidi"), []byte(nil)
	req := []byte("before")
	check(s.SendMsg(&req) == nil && s.RecvMsg(&msg) == nil, "drain: stream")
	for i := 0; i < 20; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := call(context.Background(), cc, "Sleep", numbers(1000))
			check(err == nil, "a call in flight: %v", err)
		}()
	}
	time.Sleep(200 * time.Millisecond)
	check(syscall.Kill(pid, syscall.SIGTERM) == nil, "kill %d", pid)
	time.Sleep(200 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	_, err := call(ctx, cc, "Unary", nil)
	cancel()
	check(status.Code(err) == codes.Unavailable, "a call after GOAWAY: %v", err)
	req = []byte("after")
	check(s.SendMsg(&req) == nil && s.RecvMsg(&msg) == nil && string(msg) == "after", "an open stream goes on")
	check(s.CloseSend() == nil && s.RecvMsg(&msg) == io.EOF, "an open stream ends well")
	wg.Wait()
	fmt.Println("drain: all is well")
}

func bench(socket string, calls, parallel int) {
	cc := dial(socket)
	_, cpu := stat(cc)
	start := time.Now()
	var wg sync.WaitGroup
	for p := 0; p < parallel; p++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < calls/parallel; i++ {
				_, err := call(context.Background(), cc, "Unary", []byte("hello"))
				check(err == nil, "bench: %v", err)
			}
		}()
	}
	wg.Wait()
	took := time.Since(start)
	_, cpu2 := stat(cc)
	fmt.Printf("server unary, %d at a time: %.1f us cpu a call, %.0f calls/s\n", parallel,
		float64(cpu2-cpu)/float64(calls), float64(calls)/took.Seconds())
}

// --- server ---------------------------------------------------------------------------------------

func handle(_ interface{}, s grpc.ServerStream) error {
	var req []byte
	method, _ := grpc.MethodFromServerStream(s)
	if err := s.RecvMsg(&req); err != nil {
		return err
	}
	switch method {
	case "/echo.Echo/Unary":
		return s.SendMsg(&req)
	case "/echo.Echo/Meta":
		md, _ := metadata.FromIncomingContext(s.Context())
		resp := []byte(md.Get("containerd-namespace")[0])
		return s.SendMsg(&resp)
	case "/echo.Echo/Trailer":
		s.SetTrailer(metadata.Pairs("some-key", strings.Repeat("v", int(number(req, 0)))))
		return s.SendMsg(&req)
	case "/echo.Echo/Fail":
		return status.Error(codes.Code(number(req, 0)), string(req[4:]))
	case "/echo.Echo/Sleep":
		select {
		case <-s.Context().Done():
			return s.Context().Err()
		case <-time.After(time.Duration(number(req, 0)) * time.Millisecond):
		}
		return s.SendMsg(&req)
	case "/echo.Echo/Stream":
		for i := uint32(0); i < number(req, 0); i++ {
			msg := make([]byte, number(req, 1))
			binary.BigEndian.PutUint32(msg, i)
			if err := s.SendMsg(&msg); err != nil {
				return err
			}
		}
		return nil
	}
	return status.Error(codes.Unimplemented, method)
}

// The shortest keepalive time: a client that does not answer PINGs is dropped after two seconds.
func serve(socket string, opts ...grpc.ServerOption) {
	l, err := net.Listen("unix", socket)
	check(err == nil, "%v", err)
	opts = append(opts, grpc.CustomCodec(rawOld{}), grpc.UnknownServiceHandler(handle),
		grpc.MaxSendMsgSize(64<<20), grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Second, Timeout: time.Second}))
	srv := grpc.NewServer(opts...)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		srv.GracefulStop()
	}()
	check(srv.Serve(l) == nil, "serve")
}

type rawOld struct{ raw }

func (rawOld) String() string { return "raw" }

func main() {
	log.SetFlags(log.Lshortfile)
	if len(os.Args) < 3 {
		log.Fatal("usage: grpcprobe client SOCKET | keepalive SOCKET | drain SOCKET PID | serve SOCKET | servezip SOCKET | bench SOCKET CALLS PARALLEL")
	}
	switch os.Args[1] {
	case "client":
		client(os.Args[2])
	case "keepalive":
		keepalivePings(os.Args[2])
	case "drain":
		pid, _ := strconv.Atoi(os.Args[3])
		drain(os.Args[2], pid)
	case "serve":
		serve(os.Args[2])
	case "servezip": // every answer is compressed
		serve(os.Args[2], grpc.RPCCompressor(grpc.NewGZIPCompressor()))
	case "bench":
		calls, _ := strconv.Atoi(os.Args[3])
		parallel, _ := strconv.Atoi(os.Args[4])
		bench(os.Args[2], calls, parallel)
	}
}
