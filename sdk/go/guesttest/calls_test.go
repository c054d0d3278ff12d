package guesttest

import (
	"net/http"
)

func headerCalls(module string) map[string]func(call) uint32 {
	return map[string]func(call) uint32{
		module + ".header_names_get": func(c call) uint32 {
			m, _ := get[*message](c.h, c.a[0])
			return c.multi(1, sortedNames(m.header))
		},
		module + ".header_values_get": func(c call) uint32 {
			m, _ := get[*message](c.h, c.a[0])
			return c.multi(3, m.header.Values(c.str(1)))
		},
		module + ".header_insert": func(c call) uint32 {
			m, ok := get[*message](c.h, c.a[0])
			if !ok {
				return 3
			}
			m.header.Set(c.str(1), c.str(3))
			return 0
		},
		module + ".header_append": func(c call) uint32 {
			m, _ := get[*message](c.h, c.a[0])
			m.header.Add(c.str(1), c.str(3))
			return 0
		},
		module + ".framing_headers_mode_set": func(c call) uint32 { return 0 },
	}
}

var hostcalls = map[string]func(call) uint32{}

func init() {
	for _, m := range []map[string]func(call) uint32{headerCalls("fastly_http_req"), headerCalls("fastly_http_resp"), messageCalls, bodyCalls, kvCalls} {
		for k, v := range m {
			hostcalls[k] = v
		}
	}
}

var messageCalls = map[string]func(call) uint32{
	"fastly_http_req.body_downstream_get": func(c call) uint32 {
		req, body := c.h.start(c.h.req)
		c.put(0, req)
		c.put(1, body)
		return 0
	},
	"fastly_http_downstream.next_request": func(c call) uint32 { c.put(2, 7777); return 0 },
	"fastly_http_downstream.next_request_wait": func(c call) uint32 {
		if len(c.h.more) == 0 {
			return 10
		}
		req, body := c.h.start(c.h.more[0])
		c.h.more = c.h.more[1:]
		c.put(1, req)
		c.put(2, body)
		return 0
	},
	"fastly_http_downstream.downstream_client_ip_addr": func(c call) uint32 {
		c.h.mem.Write(uint32(c.a[1]), []byte{192, 0, 2, 7})
		c.put(2, 4)
		return 0
	},
	"fastly_http_req.method_get": func(c call) uint32 {
		m, _ := get[*message](c.h, c.a[0])
		return c.value(1, m.method)
	},
	"fastly_http_req.uri_get": func(c call) uint32 {
		m, _ := get[*message](c.h, c.a[0])
		return c.value(1, m.uri)
	},
	"fastly_http_req.new": func(c call) uint32 {
		c.put(0, c.h.add(&message{method: "GET", header: http.Header{}}))
		return 0
	},
	"fastly_http_req.method_set": func(c call) uint32 {
		m, _ := get[*message](c.h, c.a[0])
		m.method = c.str(1)
		return 0
	},
	"fastly_http_req.uri_set": func(c call) uint32 {
		m, _ := get[*message](c.h, c.a[0])
		m.uri = c.str(1)
		return 0
	},
	"fastly_http_req.send_async":           func(c call) uint32 { return c.h.send(c, false) },
	"fastly_http_req.send_async_streaming": func(c call) uint32 { return c.h.send(c, true) },
	"fastly_http_req.pending_req_wait_v2": func(c call) uint32 {
		p, ok := get[*pending](c.h, c.a[0])
		if !ok {
			return 3
		}
		<-p.done
		c.h.things[c.a[0]] = nil
		if p.reply.fail != 0 {
			c.put(1, p.reply.fail)
			return 1
		}
		c.put(2, c.h.add(&message{status: p.reply.status, header: p.reply.header}))
		c.put(3, c.h.add(p.reply.body))
		return 0
	},
	"fastly_http_resp.new": func(c call) uint32 {
		c.put(0, c.h.add(&message{status: 200, header: http.Header{}}))
		return 0
	},
	"fastly_http_resp.status_set": func(c call) uint32 {
		m, _ := get[*message](c.h, c.a[0])
		m.status = int(c.a[1])
		return 0
	},
	"fastly_http_resp.status_get": func(c call) uint32 {
		m, _ := get[*message](c.h, c.a[0])
		c.h.mem.WriteUint16Le(uint32(c.a[1]), uint16(m.status))
		return 0
	},
	"fastly_http_resp.send_downstream": func(c call) uint32 {
		m, ok := get[*message](c.h, c.a[0])
		s, ok2 := get[*stream](c.h, c.a[1])
		if !ok || !ok2 {
			return 3
		}
		if m.status == 103 {
			c.h.hints = append(c.h.hints, m.header.Clone())
			return 0
		}
		c.h.things[c.a[0]] = nil
		if c.a[2] == 0 {
			c.h.things[c.a[1]] = nil
			s.done = s.done || s.made
		}
		c.h.answers = append(c.h.answers, answer{m.status, m.header, s, c.a[2] == 1})
		return 0
	},
}

var bodyCalls = map[string]func(call) uint32{
	"fastly_http_body.new": func(c call) uint32 {
		s := newStream("", false)
		s.made = true
		c.put(0, c.h.add(s))
		return 0
	},
	"fastly_http_body.write": func(c call) uint32 {
		s, ok := get[*stream](c.h, c.a[0])
		if !ok {
			return 3
		}
		text := c.str(1)
		text = text[:min(len(text), 30000)] // short counts must be handled
		s.write([]byte(text))
		c.put(4, uint32(len(text)))
		return 0
	},
	"fastly_http_body.read": func(c call) uint32 {
		s, ok := get[*stream](c.h, c.a[0])
		if !ok {
			return 3
		}
		buf := make([]byte, c.a[2])
		n := s.read(buf)
		if n == 0 && s.cut {
			return 9
		}
		c.h.mem.Write(uint32(c.a[1]), buf[:n])
		c.put(3, uint32(n))
		return 0
	},
	"fastly_http_body.append": func(c call) uint32 {
		dst, ok := get[*stream](c.h, c.a[0])
		src, ok2 := get[*stream](c.h, c.a[1])
		if !ok || !ok2 {
			return 3
		}
		c.h.things[c.a[1]] = nil
		dst.src = src
		return 0
	},
	"fastly_http_body.close":   func(c call) uint32 { return c.h.end(c.a[0], false) },
	"fastly_http_body.abandon": func(c call) uint32 { return c.h.end(c.a[0], true) },
	"fastly_http_body.trailer_append": func(c call) uint32 {
		s, _ := get[*stream](c.h, c.a[0])
		s.trailer.Add(c.str(1), c.str(3))
		return 0
	},
	"fastly_http_body.trailer_names_get": func(c call) uint32 {
		s, _ := get[*stream](c.h, c.a[0])
		return c.multi(1, sortedNames(s.trailer))
	},
	"fastly_async_io.select": selectReady,
	"fastly_async_io.is_ready": func(c call) uint32 {
		is, ok := c.h.ready(uint32(c.a[0]))
		if !ok {
			return 3
		}
		v := uint32(0)
		if is {
			v = 1
		}
		c.put(1, v)
		return 0
	},
}

func (h *host) end(n uint64, cut bool) uint32 {
	s, ok := get[*stream](h, n)
	if !ok {
		return 3
	}
	h.things[n] = nil
	s.close(cut)
	return 0
}

var kvCalls = map[string]func(call) uint32{
	"fastly_config_store.open": func(c call) uint32 { return 3 },
	"fastly_kv_store.open":     func(c call) uint32 { c.put(2, 1); return 0 },
	"fastly_kv_store.lookup": func(c call) uint32 {
		p := &pending{done: make(chan struct{}), entry: c.h.kv[c.str(1)], code: 1}
		if p.entry == nil {
			p.code = 3
		}
		c.put(5, c.h.settled(p))
		return 0
	},
	"fastly_kv_store.lookup_wait_v2": func(c call) uint32 {
		p, _ := get[*pending](c.h, c.a[0])
		c.put(6, p.code)
		if p.entry == nil {
			return 0
		}
		c.put(1, c.h.add(newStream(p.entry.value, true)))
		c.put64(5, p.entry.gen)
		return c.value(2, p.entry.meta)
	},
	"fastly_kv_store.insert": func(c call) uint32 {
		s, ok := get[*stream](c.h, c.a[3])
		if !ok {
			return 3
		}
		s.done = true
		p := &pending{done: make(chan struct{}), code: 1}
		config, _ := c.h.mem.Read(uint32(c.a[5]), 32)
		if order.Uint32(config) == 1 && c.h.kv[c.str(1)] != nil {
			p.code = 4
		} else {
			meta := ""
			if c.a[4]&8 != 0 {
				b, _ := c.h.mem.Read(order.Uint32(config[8:]), order.Uint32(config[12:]))
				meta = string(b)
			}
			c.h.kv[c.str(1)] = &entry{s.all(), meta, 41 + uint64(order.Uint32(config[16:]))}
		}
		c.put(6, c.h.settled(p))
		return 0
	},
	"fastly_kv_store.insert_wait": func(c call) uint32 {
		p, _ := get[*pending](c.h, c.a[0])
		c.put(1, p.code)
		return 0
	},
	"fastly_kv_store.list": func(c call) uint32 {
		text := `{"data":["k1","k2"],"meta":{"limit":1000,"prefix":"k","next_cursor":"azI="}}`
		config, _ := c.h.mem.Read(uint32(c.a[2]), 24)
		if c.a[1]&2 != 0 {
			b, _ := c.h.mem.Read(order.Uint32(config[4:]), order.Uint32(config[8:]))
			text = `{"data":["after ` + string(b) + `"],"meta":{}}`
		}
		c.put(3, c.h.settled(&pending{done: make(chan struct{}), list: text}))
		return 0
	},
	"fastly_kv_store.list_wait": func(c call) uint32 {
		p, _ := get[*pending](c.h, c.a[0])
		c.put(1, c.h.add(newStream(p.list, true)))
		c.put(2, 1)
		return 0
	},
}
