package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
)

const secretsUsage = "[--pop NAME] list SERVICE STORE | put SERVICE STORE NAME | delete SERVICE STORE NAME"

// runSecrets writes secrets to stores of services that run. A secret is sealed here: only PoPs can open it.
func runSecrets(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("secrets")
	r.flags(fs)
	pop := fs.String("pop", "", "`NAME` of the PoP that takes it; without it any that is there")
	rest, err := parse(fs, args, 4)
	if err != nil {
		return err
	}
	want := api.StateRequest{PoP: *pop, Header: map[string]string{}}
	switch verb := first(rest, ""); {
	case verb == "list" && len(rest) == 3:
		want.Method, want.Path = http.MethodGet, statePath(rest[2])
	case verb == "delete" && len(rest) == 4:
		want.Method, want.Path = http.MethodDelete, statePath(rest[2], rest[3])
	case verb == "put" && len(rest) == 4:
		want.Method, want.Path = http.MethodPut, statePath(rest[2], rest[3])
		want.Body, err = r.sealed(ctx, std.in, rest[1], rest[2], rest[3])
	default:
		err = &wedge.Error{Op: "secrets", Kind: wedge.Invalid, Err: errors.New("what to do, with what, is not said"), Hint: "Usage: wedge secrets " + secretsUsage}
	}
	if err != nil {
		return err
	}
	list, err := r.State(ctx, rest[1], want)
	if err != nil {
		return err
	}
	if err := list[0].Fault(); err != nil {
		return err
	}
	var keys struct {
		Keys []string `json:"keys"`
	}
	if rest[0] != "list" {
		return nil
	}
	if err := json.Unmarshal(list[0].Body, &keys); err != nil {
		return err
	}
	return r.show(std.out, keys.Keys, func(w io.Writer) {
		for _, k := range keys.Keys {
			fmt.Fprintln(w, k)
		}
	})
}

// sealed reads a secret, without the newline at its end, and closes it for its place.
func (r *remote) sealed(ctx context.Context, in io.Reader, service, store, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(in, wedge.MaxSecret+3))
	if err != nil {
		return nil, &wedge.Error{Op: "read secret", Kind: wedge.Unavailable, Err: err}
	}
	if line, ok := bytes.CutSuffix(b, []byte("\n")); ok {
		b = bytes.TrimSuffix(line, []byte("\r"))
	}
	if len(b) == 0 || len(b) > wedge.MaxSecret {
		return nil, &wedge.Error{Op: "read secret", Kind: wedge.Invalid, Err: fmt.Errorf("it has 0 or more than %d bytes", wedge.MaxSecret), Hint: "Give it on standard input, as in: wedge secrets put SERVICE STORE NAME < FILE"}
	}
	key, err := r.SealingKey(ctx)
	if err != nil {
		return nil, err
	}
	return key.Seal(wedge.SecretPlace(service, store, name), b)
}
