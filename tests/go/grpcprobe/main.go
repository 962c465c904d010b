// SPDX-License-Identifier: Apache-2.0

// grpcprobe is Go's gRPC library as a peer for grpc_echo: `client SOCKET` calls our server,
// `serve SOCKET` is called by our client, `bench SOCKET CALLS PARALLEL` measures our server.
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
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
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
	opts = append(opts, grpc.WithInsecure(), grpc.WithBlock(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return net.Dial("unix", socket)
		}))
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

	// a stream that nobody reads is given up
	ctx, cancel = context.WithCancel(context.Background())
	s := stream(ctx, cc, "Stream")
	req, msg := numbers(50000, 1000), []byte(nil)
	check(s.SendMsg(&req) == nil && s.RecvMsg(&msg) == nil, "stream")
	cancel()
	_, err = call(context.Background(), cc, "Unary", nil)
	check(err == nil, "after cancel: %v", err)
}

// The server's own deadline, with a client that does not watch it.
func parallel(cc *grpc.ClientConn) {
	var wg sync.WaitGroup
	for i := 0; i < 1000; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := call(context.Background(), cc, "Sleep", numbers(20))
			check(err == nil, "parallel: %v", err)
		}()
	}
	wg.Wait()
}

func client(socket string) {
	cc := dial(socket, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}))
	unary(cc)
	failures(cc)
	streams(cc)
	cancels(cc)
	parallel(cc)
	if len(os.Args) > 3 { // longer than the client's keepalive time
		_, err := call(context.Background(), cc, "Sleep", numbers(13000))
		check(err == nil, "keepalive: %v", err)
	}
	cc.Close()
	fmt.Println("client: all is well")
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

func serve(socket string) {
	l, err := net.Listen("unix", socket)
	check(err == nil, "%v", err)
	srv := grpc.NewServer(grpc.CustomCodec(rawOld{}), grpc.UnknownServiceHandler(handle),
		grpc.MaxSendMsgSize(64<<20), grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{}))
	log.Fatal(srv.Serve(l))
}

type rawOld struct{ raw }

func (rawOld) String() string { return "raw" }

func main() {
	log.SetFlags(log.Lshortfile)
	if len(os.Args) < 3 {
		log.Fatal("usage: grpcprobe client SOCKET [long] | serve SOCKET | bench SOCKET CALLS PARALLEL")
	}
	switch os.Args[1] {
	case "client":
		client(os.Args[2])
	case "serve":
		serve(os.Args[2])
	case "bench":
		calls, _ := strconv.Atoi(os.Args[3])
		parallel, _ := strconv.Atoi(os.Args[4])
		bench(os.Args[2], calls, parallel)
	}
}
