package bus

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wedge-cloud/wedge"
)

// A Log is kept by the core: entries in one order, each with the next number. Each writer has a subject of
// its own in it, so that its order can be checked; writers' names are words with dots between, of which a PoP's begin with its own. What is stored is said again to all who follow the log.
type Log struct {
	Name string        // upper case
	Keep time.Duration // how long entries stay; 0: for ever
	Size int64         // how many bytes stay, the newest; 0: no bound
	Core bool          // only cores write to it

	Newest bool // of each writer only the newest entry stays: numbers have gaps
}

func (g *Log) subject(writer string) string { return "log." + g.Name + "." + writer }

// writer returns whose subject that is.
func (g *Log) writer(subject string) string { return strings.TrimPrefix(subject, g.subject("")) }

func (g *Log) tail() string { return "tail." + g.Name }

// Fields of an entry's message.
const (
	fieldFirst = "W-First" // number of the first item at its writer
	fieldSum   = "W-Sum"   // checksum of the body
)

// Keep has the core keep a log, as so many servers' copies. It must be there before anybody writes to it; if it is
// there already that is fine.
func (l *Link) Keep(ctx context.Context, g *Log, copies int) error {
	size := g.Size
	if size == 0 {
		size = -1
	}
	each := int64(-1)
	if g.Newest {
		each = 1
	}
	return l.keep(ctx, jetstream.StreamConfig{
		Name: g.Name, MaxMsgsPerSubject: each, Subjects: []string{g.subject(">")}, Storage: jetstream.FileStorage, Replicas: copies,
		MaxAge: g.Keep, MaxBytes: size, Discard: jetstream.DiscardOld, DenyDelete: true, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: ">", Destination: g.tail() + ".>"},
	})
}

// keepTimeout is for a core of several servers, which agree on a leader first. Who is asked before there is one does not answer.
const keepTimeout = 5 * time.Second

// keep has the core keep what NATS calls a stream.
func (l *Link) keep(ctx context.Context, cfg jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	js, err := jetstream.New(l.nc)
	if err == nil {
		_, err = js.CreateOrUpdateStream(ctx, cfg)
	}
	if err != nil {
		return unavailable("keep", cfg.Name, err)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// message makes the message of an entry.
func (g *Log) message(writer string, first uint64, items [][]byte) *nats.Msg {
	var b []byte
	for _, it := range items {
		b = append(binary.AppendUvarint(b, uint64(len(it))), it...)
	}
	m := nats.NewMsg(g.subject(writer))
	m.Data = b
	m.Header.Set(fieldFirst, strconv.FormatUint(first, 10))
	m.Header.Set(fieldSum, sumOf(b))
	return m
}

func sumOf(b []byte) string { return strconv.FormatUint(uint64(crc32.Checksum(b, castagnoli)), 16) }

// errDamaged is an entry that is not what its writer wrote.
var errDamaged = errors.New("the entry is damaged")

// entry reads the message of an entry. Nothing in it is believed: who may write to the bus may write anything.
func (g *Log) entry(seq uint64, subject string, at time.Time, h nats.Header, data []byte) (wedge.Entry, error) {
	e := wedge.Entry{Seq: seq, Writer: g.writer(subject), At: at}
	if h.Get(fieldSum) != sumOf(data) {
		return e, errDamaged
	}
	var err error
	if e.First, err = strconv.ParseUint(h.Get(fieldFirst), 10, 64); err != nil {
		return e, errDamaged
	}
	for len(data) > 0 {
		n, size := binary.Uvarint(data)
		if size <= 0 || n > uint64(len(data)-size) {
			return e, errDamaged
		}
		e.Items = append(e.Items, data[size:size+int(n):size+int(n)])
		data = data[size+int(n):]
	}
	if len(e.Items) == 0 || e.First > 1<<62 {
		return e, errDamaged
	}
	return e, nil
}

// Append writes an entry of one item if the writer's last one has the number last in the log, 0 if there is to be none, and
// returns its own. An error of kind Conflict means that there is another. Whether an append that failed
// otherwise took place is not known.
func (l *Link) Append(ctx context.Context, g *Log, writer string, last uint64, item []byte) (uint64, error) {
	return l.append(ctx, g, last, g.message(writer, 0, [][]byte{item}))
}

// AppendItem is Append for a log whose writers number their items: the entry's has that number.
func (l *Link) AppendItem(ctx context.Context, g *Log, writer string, last, number uint64, item []byte) (uint64, error) {
	return l.append(ctx, g, last, g.message(writer, number, [][]byte{item}))
}

func (l *Link) append(ctx context.Context, g *Log, last uint64, m *nats.Msg) (uint64, error) {
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(last, 10))
	m.Header.Set(jetstream.ExpectedStreamHeader, g.Name)
	var ack struct {
		Seq   uint64    `json:"seq"`
		Error *apiError `json:"error"`
	}
	if err := l.ask(ctx, m, &ack); err != nil {
		return 0, unavailable("append", g.Name, err)
	}
	if ack.Error != nil {
		return 0, ack.Error.as("append", g.Name)
	}
	return ack.Seq, nil
}

// apiError is how the server refuses.
type apiError struct {
	Code int    `json:"err_code"`
	Text string `json:"description"`
}

// The server's codes for a conflict are two: one server and a cluster have one each.
const (
	codeConflict        = 10071
	codeConflictCluster = 10164
	codeNoMessage       = 10037
)

func (e *apiError) as(op, what string) error {
	kind := wedge.Unavailable
	if e.Code == codeConflict || e.Code == codeConflictCluster {
		kind = wedge.Conflict
	}
	return &wedge.Error{Op: op, What: what, Kind: kind, Err: fmt.Errorf("%s (%d)", e.Text, e.Code)}
}

// ask sends a request and reads the JSON of the answer.
func (l *Link) ask(ctx context.Context, m *nats.Msg, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := l.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return err
	}
	return json.Unmarshal(resp.Data, answer)
}

func (l *Link) askAPI(ctx context.Context, subject string, question, answer any) error {
	b, err := json.Marshal(question)
	if err != nil {
		return err
	}
	m := nats.NewMsg("$JS.API." + subject)
	m.Data = b
	return l.ask(ctx, m, answer)
}

// extent is how far a log has got, as the server said that leads it.
type extent struct {
	first, last uint64    // numbers of its first and last entry; last is first-1 if there is none
	at          time.Time // by the server's clock
	by          string    // the server, "" if there is one only
}

// extent asks for it.
func (l *Link) extent(ctx context.Context, g *Log) (e extent, err error) {
	var info struct {
		At    time.Time `json:"ts"`
		State struct {
			First uint64 `json:"first_seq"`
			Last  uint64 `json:"last_seq"`
		} `json:"state"`
		Cluster *struct {
			Leader string `json:"leader"`
		} `json:"cluster"`
		Error *apiError `json:"error"`
	}
	if err := l.askAPI(ctx, "STREAM.INFO."+g.Name, struct{}{}, &info); err != nil {
		return e, unavailable("read log", g.Name, err)
	}
	if info.Error != nil {
		return e, info.Error.as("read log", g.Name)
	}
	e = extent{max(info.State.First, 1), info.State.Last, info.At, ""}
	if info.Cluster != nil {
		if e.by = info.Cluster.Leader; e.by == "" { // who answers may lack what was acknowledged last
			return e, unavailable("read log", g.Name, errors.New("none of the core's servers leads it"))
		}
	}
	return e, nil
}

// Head returns the number of a log's last entry, 0 if there is none.
func (l *Link) Head(ctx context.Context, g *Log) (uint64, error) {
	e, err := l.extent(ctx, g)
	return e.last, err
}

// Forget drops a log's entries before a number. Who has not followed them is told that they are lost.
func (l *Link) Forget(ctx context.Context, g *Log, before uint64) error {
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := l.askAPI(ctx, "STREAM.PURGE."+g.Name, map[string]uint64{"seq": before}, &answer); err != nil {
		return unavailable("forget", g.Name, err)
	}
	if answer.Error != nil {
		return answer.Error.as("forget", g.Name)
	}
	return nil
}

// Last returns a writer's last entry; its number is 0 if there is none.
func (l *Link) Last(ctx context.Context, g *Log, writer string) (e wedge.Entry, err error) {
	got, err := l.last(ctx, g.Name, g.subject(writer))
	if err != nil || got.Seq == 0 {
		return e, err
	}
	raw, err := base64.StdEncoding.DecodeString(got.Header)
	if err != nil {
		return e, unavailable("read log", g.Name, err)
	}
	h, err := nats.DecodeHeadersMsg(raw)
	if err != nil {
		return e, unavailable("read log", g.Name, err)
	}
	if e, err = g.entry(got.Seq, got.Subject, got.Time, h, got.Data); err != nil {
		return e, &wedge.Error{Op: "read log", What: g.Name, Kind: wedge.Internal, Err: err}
	}
	return e, nil
}

// kept is a message as the core keeps it.
type kept struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"` // 0: there is none
	Header  string    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// last returns what was said last about a subject. It asks the server that decides, not one that may lag behind.
func (l *Link) last(ctx context.Context, stream, subject string) (m kept, err error) {
	var got struct {
		Message kept      `json:"message"`
		Error   *apiError `json:"error"`
	}
	if err := l.askAPI(ctx, "STREAM.MSG.GET."+stream, map[string]string{"last_by_subj": subject}, &got); err != nil {
		return m, unavailable("read", stream, err)
	}
	if got.Error != nil && got.Error.Code != codeNoMessage {
		return m, got.Error.as("read", stream)
	}
	return got.Message, nil
}
