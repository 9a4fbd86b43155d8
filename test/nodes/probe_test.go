package nodes

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"
)

const probePort = "9000"

// probeMain is a program for hosts: `listen` echoes what comes by UDP and TCP, `ask NETWORK ADDRESS` sends a line and says what comes of it, `clock` prints a clock, `rename FROM TO` renames
// after a second, `garbage ADDRESS...` sends what no agent sends, as fast as it can, for some seconds.
func probeMain(args []string) int {
	var err error
	switch args[0] {
	case "listen":
		err = probeListen()
	case "ask":
		err = probeAsk(args[1], args[2])
	case "clock":
		fmt.Printf("clock %d\n", monotonic())
	case "rename":
		fmt.Println("renaming")
		time.Sleep(time.Second) // for the tracer to come
		err = os.Rename(args[1], args[2])
	case "garbage":
		err = probeGarbage(args[1:])
	}
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	return 0
}

func probeListen() error {
	packets, err := net.ListenPacket("udp", ":"+probePort)
	if err != nil {
		return err
	}
	streams, err := net.Listen("tcp", ":"+probePort)
	if err != nil {
		return err
	}
	go func() {
		for {
			stream, err := streams.Accept()
			if err != nil {
				return
			}
			go func() {
				defer stream.Close()
				io.Copy(stream, stream)
			}()
		}
	}()
	fmt.Println("listening")
	buffer := make([]byte, 1500)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return err
		}
		fmt.Printf("got %s\n", buffer[:n])
		packets.WriteTo(buffer[:n], from)
	}
}

// probeWait bounds a question.
const probeWait = 1500 * time.Millisecond

func probeAsk(network, address string) error {
	began := time.Now()
	conn, err := net.DialTimeout(network, address, probeWait)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(probeWait))
	name, _ := os.Hostname()
	if _, err := fmt.Fprintf(conn, "hello from %s\n", name); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Printf("answer %d %s", time.Since(began), answer)
	return nil
}

// garbageTime is how long garbage is sent.
const garbageTime = 5 * time.Second

func probeGarbage(addresses []string) error {
	draw := rand.New(rand.NewPCG(1, 2))
	packet := make([]byte, 1400)
	sent, opened := 0, 0
	for end := time.Now().Add(garbageTime); time.Now().Before(end); {
		for _, address := range addresses {
			for i := range packet {
				packet[i] = byte(draw.Uint32())
			}
			part := packet[:1+draw.IntN(len(packet))]
			if conn, err := net.Dial("udp", address); err == nil {
				conn.Write(part)
				conn.Close()
				sent++
			}
			if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
				if draw.IntN(2) == 0 { // else one that says nothing
					conn.Write(part)
				}
				if draw.IntN(50) != 0 { // else one that stays
					conn.Close()
				}
				opened++
			}
		}
	}
	fmt.Printf("sent %d packets, opened %d connections\n", sent, opened)
	return nil
}

// probe starts the program on the host.
func (h *host) probe(args ...string) *process {
	h.c.t.Helper()
	role := roleVariable
	if h.clock != nil {
		role = nextRoleVariable
	}
	return h.start([]string{role + "=probe"}, "/proc/self/exe", args...)
}

// listen starts the echo.
func (h *host) listen() *process {
	h.c.t.Helper()
	p := h.probe("listen")
	p.until("listening")
	return p
}

// asks sends a line to another host and returns how long its echo took; 0: none came.
func (h *host) asks(other *host, network string) time.Duration {
	h.c.t.Helper()
	p := h.probe("ask", network, net.JoinHostPort(other.ip.String(), probePort))
	p.wait()
	l, ok := p.find(time.Time{}, "answer ", "failed:")
	if !ok {
		h.c.t.Fatalf("%s: the probe says nothing", h.name)
	}
	var took time.Duration
	fmt.Sscanf(l.text, "answer %d", &took)
	return took
}

func (h *host) reaches(other *host, network string) bool {
	h.c.t.Helper()
	return h.asks(other, network) > 0
}

// heard counts the lines of a host that an echo has got.
func (p *process) heard(from *host) (n int) {
	for _, l := range p.said() {
		if strings.HasSuffix(l.text, "hello from "+from.name) {
			n++
		}
	}
	return n
}
