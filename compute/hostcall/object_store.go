package hostcall

import (
	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// objectStore is the older interface to the same key-value stores.
var objectStore = calls{
	"open":                kvOpen,
	"lookup":              objectLookup,
	"lookup_async":        objectLookupAsync,
	"pending_lookup_wait": objectLookupWait,
	"insert":              objectInsert,
	"insert_async":        objectInsertAsync,
	"pending_insert_wait": objectInsertWait,
	"delete_async":        objectDeleteAsync,
	"pending_delete_wait": objectDeleteWait,
}

func objectLookup(c *compute.Call) abi.Status {
	store, key := storeArg(c), keyArg(c)
	c.Read(c.U32(3), 4)
	v, err := startLookup(ex(c), store, key).wait(c)
	return objectFound(c, 3, v, err)
}

// objectFound writes the body of a hit to where word n points; a miss is the invalid handle.
func objectFound(c *compute.Call, n int, v wedge.KVValue, err error) abi.Status {
	switch {
	case err == nil:
		c.PutU32(c.U32(n), valueBody(c, v))
	case wedge.KindOf(err) == wedge.NotExist:
		c.PutU32(c.U32(n), abi.InvalidHandle)
	default:
		return objectStatus(err)
	}
	return abi.OK
}

// objectStatus returns the status that stands for err.
func objectStatus(err error) abi.Status {
	switch err {
	case nil:
		return abi.OK
	case errNoRoom:
		return abi.LimitExceeded
	}
	if kvError(err) == kvPayloadTooLarge {
		return abi.LimitExceeded
	}
	return abi.Status(wedge.KindOf(err).Guest())
}

func objectLookupAsync(c *compute.Call) abi.Status {
	store, key := storeArg(c), keyArg(c)
	c.Read(c.U32(3), 4)
	c.PutU32(c.U32(3), putItem(c, pendingLookup{startLookup(ex(c), store, key)}))
	return abi.OK
}

func objectLookupWait(c *compute.Call) abi.Status {
	p := getItem[pendingLookup](c, c.U32(0))
	c.Read(c.U32(1), 4)
	v, err := p.wait(c)
	ex(c).items.take(c.U32(0))
	return objectFound(c, 1, v, err)
}

func objectInsert(c *compute.Call) abi.Status {
	store, key := storeArg(c), keyArg(c)
	_, err := startInsert(ex(c), store, wedge.KVPut{Key: key}, takeBody(c, c.U32(3))).wait(c)
	return objectStatus(err)
}

func objectInsertAsync(c *compute.Call) abi.Status {
	store, key := storeArg(c), keyArg(c)
	c.Read(c.U32(4), 4)
	c.PutU32(c.U32(4), putItem(c, pendingInsert{startInsert(ex(c), store, wedge.KVPut{Key: key}, takeBody(c, c.U32(3)))}))
	return abi.OK
}

func objectInsertWait(c *compute.Call) abi.Status {
	_, err := getItem[pendingInsert](c, c.U32(0)).wait(c)
	ex(c).items.take(c.U32(0))
	return objectStatus(err)
}

func objectDeleteAsync(c *compute.Call) abi.Status {
	store, key := storeArg(c), keyArg(c)
	c.Read(c.U32(3), 4)
	c.PutU32(c.U32(3), putItem(c, pendingDelete{startDelete(ex(c), store, key)}))
	return abi.OK
}

// objectDeleteWait tells an absent key: none.
func objectDeleteWait(c *compute.Call) abi.Status {
	_, err := getItem[pendingDelete](c, c.U32(0)).wait(c)
	ex(c).items.take(c.U32(0))
	return objectStatus(err)
}
