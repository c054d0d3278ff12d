package hostcall

import (
	"context"
	"encoding/base64"
	"unicode/utf8"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// kvList: store, mask, kv_list_config, *handle.
func kvList(c *compute.Call) abi.Status {
	store, list := storeArg(c), readListConfig(c)
	c.Read(c.U32(3), 4)
	kv, acc := ex(c).host.KV, &ex(c).account
	fut := startKV(ex(c), kvOp{kvKey: kvKey{store: store}}, func(ctx context.Context) ([]byte, error) {
		keys, more, err := kv.List(ctx, store, list)
		if err != nil {
			return nil, err
		}
		page := listPage(keys, more, list)
		if !acc.hold(len(page)) {
			return nil, errNoRoom
		}
		return page, nil
	})
	c.PutU32(c.U32(3), putItem(c, pendingList{fut}))
	return abi.OK
}

func readListConfig(c *compute.Call) wedge.KVList {
	list := wedge.KVList{Limit: kvMaxList}
	mask, at := maskArg(c, 1, kvListMask), c.U32(2)
	if mask == 0 && at == 0 {
		return list
	}
	if c.ReadU32(at) > 1 { // strong, eventual: one PoP's own store is always strong
		c.Fail(abi.Inval)
	}
	if mask&kvCursor != 0 {
		after, err := base64.StdEncoding.DecodeString(textField(c, at+4, 2*wedge.MaxKVKey))
		if err != nil || len(after) == 0 || len(after) > wedge.MaxKVKey {
			c.Fail(abi.Inval)
		}
		list.After = string(after)
	}
	if mask&kvLimit != 0 {
		if list.Limit = int(min(c.ReadU32(at+12), kvMaxList)); list.Limit == 0 {
			c.Fail(abi.Inval)
		}
	}
	if mask&kvPrefix != 0 {
		list.Prefix = textField(c, at+16, wedge.MaxKVKey)
	}
	return list
}

// textField reads text whose pointer and length lie at at; it must not be empty, nor longer than limit.
func textField(c *compute.Call, at, limit uint32) string {
	n := c.ReadU32(at + 4)
	if n == 0 || n > limit {
		c.Fail(abi.Inval)
	}
	b := c.Read(c.ReadU32(at), n)
	if !utf8.Valid(b) {
		c.Fail(abi.Inval)
	}
	return string(b)
}

// listPage returns the JSON of one page of keys (ABI section 7.6).
func listPage(keys []string, more bool, list wedge.KVList) []byte {
	type meta struct {
		Limit  int    `json:"limit"`
		Prefix string `json:"prefix,omitempty"`
		Next   string `json:"next_cursor,omitempty"`
	}
	page := struct {
		Data []string `json:"data"`
		Meta meta     `json:"meta"`
	}{append([]string{}, keys...), meta{Limit: list.Limit, Prefix: list.Prefix}}
	if more && len(keys) > 0 {
		page.Meta.Next = base64.StdEncoding.EncodeToString([]byte(keys[len(keys)-1]))
	}
	return marshal(page)
}

func kvListWait(c *compute.Call) abi.Status {
	p := getItem[pendingList](c, c.U32(0))
	c.Read(c.U32(1), 4)
	c.Read(c.U32(2), 4)
	page, err := p.wait(c)
	ex(c).items.take(c.U32(0))
	switch err {
	case errNoRoom:
		return abi.LimitExceeded
	case nil:
		ex(c).account.release(len(page))
		c.PutU32(c.U32(1), putBody(c, newBody(page)))
	}
	c.PutU32(c.U32(2), kvError(err))
	return abi.OK
}
