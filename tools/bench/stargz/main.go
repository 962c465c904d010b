// SPDX-License-Identifier: Apache-2.0

// containerd-stargz-grpc for Debian, which packages its source only: the stargz snapshotter behind
// containerd's snapshots API. stargz.sh builds it.
//
//	containerd-stargz-grpc --root DIR --address SOCKET --config FILE
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/BurntSushi/toml"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/stargz-snapshotter/service"
	"google.golang.org/grpc"
)

func serve() error {
	root := flag.String("root", "", "data `directory`")
	address := flag.String("address", "", "`socket` to listen at")
	file := flag.String("config", "", "settings `file`")
	flag.Parse()
	var config service.Config
	if _, err := toml.DecodeFile(*file, &config); err != nil {
		return err
	}
	snapshotter, err := service.NewStargzSnapshotterService(context.Background(), *root, &config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", *address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		server.Stop()
	}()
	fmt.Println("ready")
	if err := server.Serve(listener); err != nil {
		return err
	}
	return snapshotter.Close()
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "containerd-stargz-grpc:", err)
		os.Exit(1)
	}
}
