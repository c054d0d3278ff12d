package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
)

const tenantsUsage = "[--json] | [QUOTAS] add NAME | [QUOTAS] set NAME | report NAME"

// quotaFlags lets a command have a flag for each quota.
func quotaFlags(fs *flag.FlagSet) *control.QuotaChange {
	var c control.QuotaChange
	for _, q := range []struct {
		name, usage string
		to          **int64
	}{
		{"services", "`N` services at most; 0: no bound, as for all quotas", &c.Services},
		{"versions", "`N` versions made within an hour at most", &c.Versions},
		{"tokens", "`N` tokens at most", &c.Tokens},
		{"bytes", "`N` bytes at most that kept versions are made of, compressed, each chunk once", &c.Bytes},
		{"runs", "`N` guests at once at most, on each node", &c.Runs},
	} {
		fs.Func(q.name, q.usage, func(s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil || n < 0 {
				return fmt.Errorf("%q is no number from 0", s)
			}
			*q.to = &n
			return nil
		})
	}
	return &c
}

func runTenants(ctx context.Context, std stdio, args []string) error {
	var r remote
	fs := newFlags("tenants")
	r.flags(fs)
	change := quotaFlags(fs)
	rest, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	var list []api.Tenant
	switch verb := first(rest, ""); {
	case verb == "" && *change == control.QuotaChange{}:
		list, err = r.Tenants(ctx)
	case verb == "report" && len(rest) == 2:
		return r.report(ctx, std, rest[1])
	case verb == "add" && len(rest) == 2:
		list = make([]api.Tenant, 1)
		list[0], err = r.NewTenant(ctx, newKey(), api.NewTenant{Name: rest[1], Quota: *change})
	case verb == "set" && len(rest) == 2 && *change != control.QuotaChange{}:
		list = make([]api.Tenant, 1)
		list[0], err = r.SetQuota(ctx, rest[1], newKey(), *change)
	default:
		return usage(fs, errors.New("write add NAME, set NAME with a quota, or report NAME"))
	}
	if err != nil {
		return err
	}
	if r.asJSON && len(rest) > 0 {
		return printJSON(std.out, list[0])
	}
	return r.show(std.out, list, func(w io.Writer) {
		fmt.Fprintln(w, "TENANT\tSERVICES\tVERSIONS/HOUR\tTOKENS\tBYTES\tRUNS")
		for _, t := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, useOf(t.Used.Services, t.Quota.Services), useOf(t.Used.Versions, t.Quota.Versions), useOf(t.Used.Tokens, t.Quota.Tokens), useOf(t.Used.Bytes, t.Quota.Bytes), bound(t.Quota.Runs))
		}
	})
}

// report shows where what a tenant's services keep may lie.
func (r *remote) report(ctx context.Context, std stdio, tenant string) error {
	rep, err := r.Report(ctx, tenant)
	if err != nil {
		return err
	}
	return r.show(std.out, rep, func(w io.Writer) {
		fmt.Fprintln(w, "SERVICE\tVERSION\tWHAT\tSCOPE\tJURISDICTION\tMAY LIE AT")
		for _, c := range rep.Classes {
			at := c.PoPs
			if c.Core {
				at = append(slices.Clone(at), "the core")
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", c.Service, c.Version, strings.TrimSpace(c.Class+" "+c.Name), cmp.Or(c.Scope, "-"), cmp.Or(c.Jurisdiction, "-"), strings.Join(at, " "))
		}
		fmt.Fprintln(w, "\nPOP\tCITY\tJURISDICTIONS")
		for _, p := range rep.PoPs {
			city := cmp.Or(p.City, "-")
			if p.Away {
				city = "(away)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name, city, strings.Join(p.Jurisdictions, " "))
		}
		fmt.Fprintf(w, "the core\t-\t%s\n", strings.Join(rep.Core, " "))
		fmt.Fprintf(w, "\n%d crossings\n", len(rep.Cross))
		for _, x := range rep.Cross {
			fmt.Fprintf(w, "%s of %s, of the jurisdiction %s, is asked for from %s\n", strings.TrimSpace(x.Class+" "+x.Name), x.Service, x.Jurisdiction, x.PoP)
		}
	})
}

// useOf is how much of a quota is used.
func useOf(used, quota int64) string {
	if quota == 0 {
		return strconv.FormatInt(used, 10)
	}
	return fmt.Sprintf("%d of %d", used, quota)
}

// bound is a quota whose use nobody here knows.
func bound(quota int64) string {
	if quota == 0 {
		return "-"
	}
	return strconv.FormatInt(quota, 10)
}
