package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// connections is how many clients ask at once.
const connections = 4

// load is a server on loopback and the clients that ask it. A client is as cheap as can be, because it shares the
// processors with the server: it writes a request that was made before, and reads as many bytes as the first answer had.
type load struct {
	clients []*client
	stop    func() error
}

type client struct {
	conn    net.Conn
	request []byte
	answer  []byte
}

func newLoad(s server, token string) (l *load, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l = &load{}
	if s.fiber != nil {
		go func() { _ = s.fiber.Listener(ln) }()
		l.stop = func() error { return errors.Join(s.fiber.ShutdownWithTimeout(time.Second), closed(ln)) }
	} else {
		srv := &http.Server{Handler: s.http, ReadHeaderTimeout: time.Minute}
		go func() { _ = srv.Serve(ln) }()
		l.stop = srv.Close
	}
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench/1.0\r\nAuthorization: Bearer %s\r\n\r\n", route, token)
	for range connections {
		c, err := dial(ln.Addr().String(), request)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.clients = append(l.clients, c)
	}
	return l, nil
}

// closed closes what the server may have closed already.
func closed(ln net.Listener) error {
	if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// dial asks once, and so learns how long an answer is.
func dial(address string, request []byte) (*client, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, request: request}
	if err := c.learn(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *client) learn() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	counter := &counter{r: c.conn}
	resp, err := http.ReadResponse(bufio.NewReader(counter), nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || string(body) != answer {
		return fmt.Errorf("answered %s", resp.Status)
	}
	c.answer = make([]byte, counter.n)
	return nil
}

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

// ask asks n times, by all clients together.
func (l *load) ask(n int) error {
	errs := make([]error, len(l.clients))
	var group sync.WaitGroup
	for i, c := range l.clients {
		group.Go(func() {
			for range n / len(l.clients) {
				if errs[i] = c.ask(); errs[i] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (c *client) ask() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.conn, c.answer); err != nil {
		return err
	}
	if string(c.answer[:len("HTTP/1.1 200")]) != "HTTP/1.1 200" {
		return errors.New("not answered with 200")
	}
	return nil
}

func (l *load) close() error {
	var errs []error
	for _, c := range l.clients {
		errs = append(errs, c.conn.Close())
	}
	return errors.Join(append(errs, l.stop())...)
}
