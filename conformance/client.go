package conformance

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// client sends requests to the proxy exactly as they are written, each on a connection of its own.
type client struct {
	proxy *url.URL
}

// response is what came back.
type response struct {
	status  int
	fields  []field
	body    body
	interim []interimResponse
}

type interimResponse struct {
	status int
	fields []field
}

// maxInterim bounds the interim responses before one final response.
const maxInterim = 20

// exchangeTime bounds one exchange, from the first byte sent to the last one read.
const exchangeTime = 10 * time.Second

func (c *client) dial(ctx context.Context) (net.Conn, error) {
	addr := c.proxy.Host
	var d net.Dialer
	if c.proxy.Scheme == "https" {
		if c.proxy.Port() == "" {
			addr += ":443"
		}
		return (&tls.Dialer{Config: &tls.Config{NextProtos: []string{"http/1.1"}}}).DialContext(ctx, "tcp", addr)
	}
	if c.proxy.Port() == "" {
		addr += ":80"
	}
	return d.DialContext(ctx, "tcp", addr)
}

// do sends one request. hear is called when the head of the response is there.
func (c *client) do(ctx context.Context, method, text string, hear func()) (*response, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the proxy: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte(text)); err != nil {
		return nil, fmt.Errorf("send to the proxy: %w", err)
	}
	return readResponse(bufio.NewReader(conn), method, hear)
}

// readResponse reads up to the end of the final response.
func readResponse(r *bufio.Reader, method string, hear func()) (*response, error) {
	resp := &response{}
	for {
		start, fields, err := readHead(r)
		if err != nil {
			return nil, fmt.Errorf("read the answer of the proxy: %w", err)
		}
		status, err := parseStart(start)
		if err != nil {
			return nil, err
		}
		if status < 200 && status != 101 {
			resp.interim = append(resp.interim, interimResponse{status, fields})
			if len(resp.interim) > maxInterim {
				return nil, fmt.Errorf("the proxy sent more than %d interim responses", maxInterim)
			}
			continue
		}
		hear()
		resp.status, resp.fields = status, fields
		if method == "HEAD" || status == 204 || status == 304 {
			return resp, nil
		}
		resp.body, err = readBody(r, fields, true)
		return resp, err
	}
}

func parseStart(line string) (int, error) {
	proto, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if !strings.HasPrefix(proto, "HTTP/1.") || err != nil || status < 100 {
		return 0, fmt.Errorf("the proxy answered %q, which is no status line of HTTP/1", line)
	}
	return status, nil
}

// text returns the bytes of a request.
func (p *play) text(n int) string {
	q := p.c.exchanges[n-1].request
	lines := []string{
		q.method + " " + p.path() + p.vars.must(q.suffix) + " HTTP/1.1",
		"Host: " + p.vars.text["host"],
		"Conf-Req-Num: " + strconv.Itoa(n),
	}
	for _, f := range q.fields {
		lines = append(lines, p.vars.must(f))
	}
	if q.body != "" {
		lines = append(lines, "Content-Length: "+strconv.Itoa(len(q.body)))
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + q.body
}
