package control

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/seal"
)

// Secrets of a version lie in a part of their own, sealed. In their places the version has their numbers.

var secretType = reflect.TypeFor[wedge.Secret]()

// eachSecret passes every secret that a value holds, in an order that is always the same, to f, and puts what it returns in its place.
func eachSecret(v reflect.Value, f func(wedge.Secret) (wedge.Secret, error)) error {
	if v.Type() == secretType {
		if v.Len() == 0 {
			return nil
		}
		s, err := f(v.Interface().(wedge.Secret))
		v.Set(reflect.ValueOf(s))
		return err
	}
	var err error
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			err = eachSecret(v.Elem(), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Field(i); field.CanSet() && err == nil {
				err = eachSecret(field, f)
			}
		}
	case reflect.Slice:
		for i := 0; i < v.Len() && err == nil && v.Type().Elem().Kind() != reflect.Uint8; i++ {
			err = eachSecret(v.Index(i), f)
		}
	case reflect.Map:
		err = eachInMap(v, f)
	}
	return err
}

// eachInMap does so for a map, in the order of its keys.
func eachInMap(v reflect.Value, f func(wedge.Secret) (wedge.Secret, error)) error {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	for _, key := range keys {
		own := reflect.New(v.Type().Elem()).Elem()
		own.Set(v.MapIndex(key))
		if err := eachSecret(own, f); err != nil {
			return err
		}
		v.SetMapIndex(key, own)
	}
	return nil
}

func placeOf(n int) wedge.Secret { return fmt.Appendf(nil, "sealed %d", n) }

// Sealed reports whether an artifact has secrets that are sealed.
func (a *Artifact) Sealed() bool {
	return slices.ContainsFunc(a.Parts, func(p Part) bool { return p.Name == "secrets" })
}

// sealedFor says where a version's secrets belong.
func sealedFor(service string) string { return "version of " + service }

// closeSecrets takes the secrets out of what a version came to as bytes, and returns both; sealed is nil if there are none.
func closeSecrets(version []byte, to *seal.Public) (stripped, sealed []byte, err error) {
	v := new(wedge.Version)
	if err := decoding.Unmarshal(version, v); err != nil {
		return nil, nil, err
	}
	var list []wedge.Secret
	err = eachSecret(reflect.ValueOf(v).Elem(), func(s wedge.Secret) (wedge.Secret, error) {
		list = append(list, s)
		return placeOf(len(list) - 1), nil
	})
	if err != nil || len(list) == 0 {
		return version, nil, err
	}
	if stripped, err = encoding.Marshal(v); err == nil {
		sealed, err = encoding.Marshal(list)
	}
	if err == nil {
		sealed, err = to.Seal(sealedFor(v.Service), sealed)
	}
	return stripped, sealed, err
}

// openSecrets puts them back.
func openSecrets(v *wedge.Version, sealed []byte, ring *seal.Ring) error {
	b, err := ring.Open(sealedFor(v.Service), sealed)
	if err != nil {
		return err
	}
	var list []wedge.Secret
	if err := decoding.Unmarshal(b, &list); err != nil {
		return misplaced
	}
	next := 0
	err = eachSecret(reflect.ValueOf(v).Elem(), func(s wedge.Secret) (wedge.Secret, error) {
		if next >= len(list) || string(s) != string(placeOf(next)) {
			return s, misplaced
		}
		next++
		return list[next-1], nil
	})
	if err == nil && next != len(list) {
		err = misplaced
	}
	return err
}

var misplaced = &wedge.Error{Op: "open secrets", Kind: wedge.Invalid, Err: errors.New("they are not those that the version says")}
