package launch

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// secondTerm is how long after a TERM another one means that the sender has lost patience. Schedulers signal every
// process of a job, and wrappers pass signals on, so one request may arrive twice at once.
const secondTerm = 2 * time.Second

// request is what a signal asks of the agent.
type request int

const (
	requestNothing request = iota
	requestStop            // with a checkpoint
	requestKill            // at once
	requestStacks          // no stop: show what the workers do
)

// stopPolicy turns signals into requests.
type stopPolicy struct {
	term      time.Time // of the first TERM
	interrupt bool      // there was an INT
}

// on returns what signal s, which came at the given time, asks for.
func (p *stopPolicy) on(s os.Signal, at time.Time) request {
	switch s {
	case syscall.SIGTERM:
		if p.term.IsZero() {
			p.term = at
			return requestStop
		}
		if at.Sub(p.term) > secondTerm {
			return requestKill
		}
	case syscall.SIGINT:
		if p.interrupt {
			return requestKill
		}
		p.interrupt = true
		return requestStop
	case syscall.SIGUSR1, syscall.SIGHUP:
		return requestStop
	case syscall.SIGQUIT:
		return requestStacks
	}
	return requestNothing
}

// notifySignals sends the signals that steer an agent to a new channel until stop is called. INT and HUP stay ignored
// where they are (nohup, a shell's background jobs). USR2 is taken and means nothing, so that a scheduler's does not end
// the agent. Nor does PIPE: whoever reads its output may end first, such as a tee to which the terminal sends the same INT.
func notifySignals() (signals chan os.Signal, stop func()) {
	signals = make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	unread := make(chan os.Signal, 1) // each write to a closed pipe raises one; being taken makes it an error of that write alone
	signal.Notify(unread, syscall.SIGPIPE)
	return signals, func() {
		signal.Stop(signals)
		signal.Stop(unread)
	}
}
