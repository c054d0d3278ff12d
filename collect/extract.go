package collect

import "encoding/binary"

// Extract is what an aggregator gives a PoP that asks: what answers its query, and how far it has heard that PoP. What the PoP
// has besides it can add itself.
type Extract struct {
	Done    uint64 // the last item of the PoP's that is in it
	Windows []*Window
}

// Extract returns that for a query of a writer's.
func (r *Results) Extract(q *Query, writer string) Extract {
	return Extract{r.done[writer], q.Reduce(r.Of(q))}
}

// Encode returns it as bytes.
func (x *Extract) Encode() []byte {
	b := binary.AppendUvarint([]byte{wireVersion}, x.Done)
	for _, w := range x.Windows {
		b = putText(b, string(w.Encode(1 << 40)[0]))
	}
	return b
}

// DecodeExtract reads what Encode has made.
func DecodeExtract(b []byte) (x Extract, err error) {
	r := &reader{b: b}
	if r.byte() != wireVersion {
		return x, errDamaged
	}
	x.Done = r.number(1 << 63)
	for len(r.b) > 0 && !r.bad {
		w, err := Decode(r.take(r.number(1 << 40)))
		if err != nil {
			return Extract{}, err
		}
		x.Windows = append(x.Windows, w)
	}
	if r.bad {
		return Extract{}, errDamaged
	}
	return x, nil
}
