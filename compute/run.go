package compute

import "context"

type run struct{ ctx context.Context }

func (r *run) block(wait func(context.Context)) { wait(r.ctx) }
