-- The demo's database: a small shop. Column comments say what regate's data.json protects.
CREATE TABLE customers (
  id         int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name       text NOT NULL,
  email      text NOT NULL,          -- class contact
  phone      text NOT NULL,          -- class contact
  ssn        text NOT NULL,          -- class pii
  birthday   date NOT NULL,          -- class pii
  city       text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE products (
  id    int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name  text NOT NULL UNIQUE,
  price numeric(8,2) NOT NULL CHECK (price >= 0),
  stock int NOT NULL CHECK (stock >= 0)
);

CREATE TABLE orders (
  id          int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  customer_id int NOT NULL REFERENCES customers,
  status      text NOT NULL CHECK (status IN ('new', 'paid', 'sent', 'returned')),
  ordered_at  timestamptz NOT NULL,
  note        text
);

CREATE TABLE order_items (
  order_id   int NOT NULL REFERENCES orders,
  product_id int NOT NULL REFERENCES products,
  quantity   int NOT NULL CHECK (quantity > 0),
  price      numeric(8,2) NOT NULL,
  PRIMARY KEY (order_id, product_id)
);

CREATE TABLE payments (
  id       int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  order_id int NOT NULL REFERENCES orders,
  card_number text NOT NULL,         -- class card
  brand    text NOT NULL,
  amount   numeric(10,2) NOT NULL,
  paid_at  timestamptz NOT NULL
);

-- Where agents may write.
CREATE TABLE notes (
  id         int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  author     text NOT NULL DEFAULT current_user,
  body       text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO customers (name, email, phone, ssn, birthday, city, created_at)
SELECT first || ' ' || last,
       lower(first) || '.' || lower(last) || '@example.com',
       '+1-555-' || lpad((1000 + n * 37 % 9000)::text, 4, '0'),
       lpad((100 + n * 7 % 800)::text, 3, '0') || '-' || lpad((10 + n % 89)::text, 2, '0') || '-' ||
         lpad((1000 + n * 613 % 9000)::text, 4, '0'),
       date '1950-01-01' + (n * 211) % 20000,
       (ARRAY['Berlin', 'Lisbon', 'Nairobi', 'Osaka', 'Quito', 'Toronto'])[1 + n % 6],
       timestamptz '2026-01-01 09:00:00+00' + n * interval '7 hours'
FROM (
  SELECT n,
         (ARRAY['Ada', 'Edgar', 'Grace', 'Alan', 'Barbara', 'Donald', 'Frances', 'Leslie', 'Margaret', 'Niklaus'])[1 + n % 10] AS first,
         (ARRAY['Lovelace', 'Codd', 'Hopper', 'Turing', 'Liskov', 'Knuth', 'Allen', 'Lamport', 'Hamilton', 'Wirth', 'Perlis'])[1 + n % 11] AS last
  FROM generate_series(0, 109) n
) names;

INSERT INTO products (name, price, stock)
SELECT material || ' ' || thing, round((5 + n * 3.25)::numeric, 2), 20 + n * 7 % 200
FROM (
  SELECT n,
         (ARRAY['Oak', 'Steel', 'Linen', 'Glass', 'Cork', 'Copper', 'Wool'])[1 + n % 7] AS material,
         (ARRAY['desk', 'lamp', 'chair', 'kettle', 'shelf', 'rug', 'clock', 'vase'])[1 + n % 8] AS thing
  FROM generate_series(0, 55) n
) goods;

INSERT INTO orders (customer_id, status, ordered_at, note)
SELECT 1 + n * 17 % 110, (ARRAY['paid', 'sent', 'new', 'sent', 'returned'])[1 + n % 5],
       timestamptz '2026-03-01 08:00:00+00' + n * interval '95 minutes',
       CASE WHEN n % 9 = 0 THEN 'leave at the door' END
FROM generate_series(0, 799) n;

INSERT INTO order_items (order_id, product_id, quantity, price)
SELECT o.id, p.id, 1 + (o.id * k) % 3, p.price
FROM orders o CROSS JOIN generate_series(1, 2) k
JOIN products p ON p.id = 1 + (o.id * 11 + k * 5) % 56;

INSERT INTO payments (order_id, card_number, brand, amount, paid_at)
SELECT o.id, '4' || lpad((o.id * 7919 % 1000000007)::text, 15, '1'), (ARRAY['visa', 'amex', 'master'])[1 + o.id % 3],
       (SELECT sum(quantity * price) FROM order_items i WHERE i.order_id = o.id),
       o.ordered_at + interval '11 minutes'
FROM orders o WHERE o.status <> 'new';

CREATE VIEW order_totals AS
SELECT o.id, o.customer_id, o.status, sum(i.quantity * i.price) AS total
FROM orders o JOIN order_items i ON i.order_id = o.id
GROUP BY o.id;

CREATE VIEW customer_directory AS
SELECT id, name, name || ' <' || email || '>' AS address, city FROM customers;

ANALYZE;
