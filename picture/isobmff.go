package picture

import (
	"encoding/binary"
	"errors"
	"image"
	"slices"

	"github.com/kovidgoyal/imaging"
)

// avifHead is what the boxes of an AVIF file (ISO/IEC 14496-12, 23008-12) say of the image that it is.
type avifHead struct {
	width, height int  // before it is turned
	quarters      int  // turns to the left
	mirrored      bool // after that
	sideways      bool // left is right then, not top bottom
}

// brands returns those of a file: the major one first.
func brands(file []byte) (brands []string) {
	if len(file) < 16 || string(file[4:8]) != "ftyp" {
		return nil
	}
	n := min(int(binary.BigEndian.Uint32(file)), len(file), 256)
	for at := 8; at+4 <= n; at += 4 {
		if at != 12 { // the minor version
			brands = append(brands, string(file[at:at+4]))
		}
	}
	return brands
}

// isAVIF tells an AVIF file, of one image or many, from others with boxes.
func isAVIF(file []byte) bool {
	return slices.ContainsFunc(brands(file), func(b string) bool { return b == "avif" || b == "avis" })
}

var errBoxes = errors.New("avif: the boxes say nothing of an image")

// maxProperties bounds how many properties are looked at. Files have ten or so.
const maxProperties = 1 << 10

type box struct {
	kind string
	body []byte
}

// boxes calls visit with each box in b. What is cut off is left out.
func boxes(b []byte, visit func(box)) {
	for len(b) >= 8 {
		n, head := uint64(binary.BigEndian.Uint32(b)), uint64(8)
		switch {
		case n == 0: // to the end
			n = uint64(len(b))
		case n == 1 && len(b) >= 16:
			n, head = binary.BigEndian.Uint64(b[8:]), 16
		}
		if n < head || n > uint64(len(b)) {
			return
		}
		visit(box{string(b[4:8]), b[head:n]})
		b = b[n:]
	}
}

// first returns what is in the first box of a kind, without its skip first bytes; nothing if there is none.
func first(b []byte, kind string, skip int) (body []byte) {
	boxes(b, func(b box) {
		if b.kind == kind && body == nil && len(b.body) > skip {
			body = b.body[skip:]
		}
	})
	return body
}

// readAVIFHead looks for the properties of the primary item.
func readAVIFHead(file []byte) (h avifHead, err error) {
	meta := first(file, "meta", 4) // after version and flags, as in pitm
	primary := number32(first(meta, "pitm", 4))
	all := first(meta, "iprp", 0)
	var properties []box
	boxes(first(all, "ipco", 0), func(b box) {
		if len(properties) < maxProperties {
			properties = append(properties, b)
		}
	})
	boxes(all, func(b box) {
		if b.kind != "ipma" {
			return
		}
		for _, i := range propertiesOf(primary, b.body) {
			if i >= 1 && i <= len(properties) {
				h.set(properties[i-1])
			}
		}
	})
	if h.width == 0 || h.height == 0 {
		return h, errBoxes
	}
	return h, nil
}

// number32 reads a number of 2 or 4 bytes.
func number32(b []byte) uint32 {
	switch len(b) {
	case 2:
		return uint32(binary.BigEndian.Uint16(b))
	case 4:
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// propertiesOf returns the places of an item's properties, the first 1, by an ipma box.
func propertiesOf(item uint32, b []byte) (places []int) {
	if len(b) < 8 {
		return nil
	}
	idSize, placeSize := 2, 1
	if b[0] > 0 {
		idSize = 4
	}
	if b[3]&1 != 0 {
		placeSize = 2
	}
	for b = b[8:]; len(b) > idSize; {
		id, n := number32(b[:idSize]), placeSize*int(b[idSize])
		b = b[idSize+1:]
		if n > len(b) {
			return nil
		}
		if id != item {
			b = b[n:]
			continue
		}
		for at := 0; at < n; at += placeSize {
			place := int(b[at] & 0x7f) // without the bit that says it is essential
			if placeSize == 2 {
				place = place<<8 | int(b[at+1])
			}
			places = append(places, place)
		}
		return places
	}
	return nil
}

// set takes what one property says.
func (h *avifHead) set(b box) {
	switch {
	case b.kind == "ispe" && len(b.body) >= 12:
		h.width, h.height = int(binary.BigEndian.Uint32(b.body[4:])), int(binary.BigEndian.Uint32(b.body[8:]))
	case b.kind == "irot" && len(b.body) >= 1:
		h.quarters = int(b.body[0] & 3)
	case b.kind == "imir" && len(b.body) >= 1:
		h.mirrored, h.sideways = true, b.body[0]&1 != 0
	}
}

// upright turns the image as the file says that it is to be shown.
func (h avifHead) upright(img image.Image) image.Image {
	img = upright(img, [...]int{1, 8, 3, 6}[h.quarters])
	switch {
	case h.mirrored && h.sideways:
		return imaging.FlipH(img)
	case h.mirrored:
		return imaging.FlipV(img)
	}
	return img
}
