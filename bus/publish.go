package bus

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wedge-cloud/wedge"
)

// Publisher sends messages to subjects of a NATS that somebody else runs. It connects in the background.
type Publisher struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// NewPublisher returns one. credentials is the file with those that the NATS wants, "" if it wants none.
func NewPublisher(name string, urls []string, credentials string) (*Publisher, error) {
	opts := nats.Options{Name: name, Servers: urls, AllowReconnect: true, MaxReconnect: -1, RetryOnFailedConnect: true, Timeout: askTimeout,
		ReconnectWait: mostWait, ReconnectBufSize: -1, PingInterval: pingInterval, MaxPingsOut: pingsOut}
	var err error
	if credentials != "" {
		err = nats.UserCredentials(credentials)(&opts)
	}
	p := &Publisher{}
	if err == nil {
		p.nc, err = opts.Connect()
	}
	if err == nil {
		p.js, err = jetstream.New(p.nc)
	}
	if err != nil {
		return nil, &wedge.Error{Op: "connect to NATS", What: name, Kind: wedge.Invalid, Err: err}
	}
	return p, nil
}

// Publish returns once a stream has kept the message. One with an id that the stream had of late is not kept twice.
func (p *Publisher) Publish(ctx context.Context, subject, id string, data []byte) error {
	if !p.nc.IsConnected() {
		return unavailable("publish", subject, errors.New("no server of the NATS can be reached"))
	}
	if _, err := p.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, jetstream.WithMsgID(id)); err != nil {
		return unavailable("publish", subject, err)
	}
	return nil
}

// Close ends the connection.
func (p *Publisher) Close() { p.nc.Close() }
