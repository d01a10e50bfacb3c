-- Statements against the demo's shop, judged in examples_test.rego as data.fixtures.<name>.
-- `regate policy test` analyses them with the catalog below; the database itself is not needed.
-- catalog: shop.catalog.json

-- name: agent_reads_names
-- as: agents
SELECT id, name, city FROM customers ORDER BY id LIMIT 10

-- name: agent_reads_ssn
-- as: agents
SELECT name, ssn FROM customers WHERE id = 7

-- name: agent_reads_everything
-- as: agents
SELECT * FROM customers

-- name: agent_hides_ssn_in_an_expression
-- as: agents
SELECT 'x' || upper(ssn) AS innocent FROM customers

-- name: agent_filters_by_ssn
-- as: agents
SELECT name FROM customers WHERE ssn LIKE '123%'

-- name: agent_divides_by_zero_on_purpose
-- as: agents
SELECT 1 / (length(ssn) - 11) FROM customers

-- name: agent_counts
-- as: agents
SELECT city, count(*) FROM customers GROUP BY city

-- name: engineer_copies_ssn
-- as: engineers
INSERT INTO orders (customer_id, status, ordered_at, note) SELECT id, 'new', now(), ssn FROM customers

-- name: agent_deletes
-- as: agents
DELETE FROM orders WHERE id = 1

-- name: agent_deletes_inside_with
-- as: agents
WITH gone AS (DELETE FROM orders RETURNING id) SELECT count(*) FROM gone

-- name: agent_drops
-- as: agents
DROP TABLE orders

-- name: agent_runs_code
-- as: agents
DO $$ BEGIN DELETE FROM orders; END $$

-- name: agent_reads_a_file
-- as: agents
SELECT pg_read_file('PG_VERSION')

-- name: agent_reads_statistics
-- as: agents
SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'

-- name: agent_lists_tables
-- as: agents
SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'

-- name: engineer_sets_a_timeout_that_is_locked
-- as: engineers
SET statement_timeout = 0

-- name: agent_sets_the_time_zone
-- as: agents
SET TIME ZONE 'Europe/Berlin'

-- name: agent_becomes_somebody_else
-- as: agents
SET ROLE postgres

-- name: engineer_updates_an_order
-- as: engineers
UPDATE orders SET status = 'sent' WHERE id = 1

-- name: engineer_updates_all_orders
-- as: engineers
UPDATE orders SET status = 'sent'

-- name: engineer_changes_a_price
-- as: engineers
UPDATE products SET price = 1 WHERE id = 1

-- name: engineer_reads_email
-- as: engineers
SELECT email FROM customers

-- name: admin_reads_ssn
-- as: admins
SELECT ssn FROM customers WHERE ssn LIKE '123%'
