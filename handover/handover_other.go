//go:build !unix

package handover

import (
	"errors"
	"net"
	"os"
)

func duplicate(net.Listener) (*os.File, error) { return nil, errors.ErrUnsupported }

func (p *Process) spawn() (*peer, error) { return nil, errors.ErrUnsupported }

func (p *Process) inherit() error { return nil }
