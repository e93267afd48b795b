package main

import (
	"net/http"

	"github.com/keycote/keycote"
)

// ordersSchema is the application's own table, in the same database as the keys.
const ordersSchema = `CREATE TABLE IF NOT EXISTS orders (
	id       INTEGER PRIMARY KEY,
	item     TEXT NOT NULL,
	quantity INTEGER NOT NULL,
	app      TEXT NOT NULL, -- whose key placed it
	key_id   TEXT NOT NULL
)`

type order struct {
	ID       int64  `json:"number"`
	Item     string `json:"item"`
	Quantity int    `json:"quantity"`
	App      string `json:"app"`
	KeyID    string `json:"keyId"`
}

// listOrders answers with the last hundred orders.
func (a *app) listOrders(w http.ResponseWriter, r *http.Request) {
	if !knownQuery(w, r) {
		return
	}
	rows, err := a.db.QueryContext(r.Context(), `SELECT id, item, quantity, app, key_id FROM orders ORDER BY id DESC LIMIT 100`)
	if err != nil {
		a.writeError(w, r, err)
		return
	}
	defer rows.Close()
	orders := []order{}
	for rows.Next() {
		var o order
		if err := rows.Scan(&o.ID, &o.Item, &o.Quantity, &o.App, &o.KeyID); err != nil {
			a.writeError(w, r, err)
			return
		}
		orders = append(orders, o)
	}
	if err := rows.Err(); err != nil {
		a.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"orders": orders})
}

// placeOrder keeps an order for the application whose key the request came with: the grant says whose, not the body.
func (a *app) placeOrder(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Item     string `json:"item"`
		Quantity int    `json:"quantity"`
	}
	if !readBody(w, r, &body) {
		return
	}
	if body.Item == "" || len(body.Item) > 200 || body.Quantity < 1 {
		writeProblem(w, problem{Status: http.StatusUnprocessableEntity, Code: keycote.ErrInvalid,
			Detail: "An order has an item, of 200 bytes at most, and a quantity from 1 on."})
		return
	}
	grant, _ := keycote.GrantFrom(r.Context())
	o := order{Item: body.Item, Quantity: body.Quantity, App: grant.App, KeyID: grant.KeyID}
	err := a.db.QueryRowContext(r.Context(), `INSERT INTO orders (item, quantity, app, key_id) VALUES (?, ?, ?, ?) RETURNING id`,
		o.Item, o.Quantity, o.App, o.KeyID).Scan(&o.ID)
	if err != nil {
		a.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, o)
}
