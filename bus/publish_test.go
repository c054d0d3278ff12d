package bus

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wedge-cloud/wedge"
)

// TestPublish: a batch that a stream has kept is kept once however often it is sent; where no stream is, or no server, it fails.
func TestPublish(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not come up")
	}
	p, err := NewPublisher("test", []string{s.ClientURL()}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	stream, err := p.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "RAW", Subjects: []string{"raw"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "a", "b"} {
		if err := p.Publish(t.Context(), "raw", id, []byte("{}\n")); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 2 {
		t.Errorf("%+v, %v", info, err)
	}
	if err := p.Publish(t.Context(), "other", "c", nil); wedge.KindOf(err) != wedge.Unavailable {
		t.Errorf("without a stream: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "nats://" + l.Addr().String()
	l.Close()
	away, err := NewPublisher("test", []string{nobody}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	if err := away.Publish(t.Context(), "raw", "d", nil); wedge.KindOf(err) != wedge.Unavailable {
		t.Errorf("without a server: %v", err)
	}
	if _, err := NewPublisher("test", []string{s.ClientURL()}, "/none"); err == nil {
		t.Error("without its credentials")
	}
}
