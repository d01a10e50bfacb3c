-- Beside the corpus database: what the tests of the analysis need in addition.
CREATE TYPE home AS (street text, zip text);
CREATE TABLE people (id int PRIMARY KEY, home home, secret text, tags text[]);
CREATE TABLE base_t (id int, secret text);
CREATE TABLE child_t (extra text) INHERITS (base_t);
CREATE TABLE "Mixed" ("Col" int, "weird.name" text, col int);
CREATE TABLE audit_log (who text, what text);
CREATE FUNCTION log_secret() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO audit_log SELECT name, ssn FROM users WHERE id = NEW.id; RETURN NEW; END';
CREATE TABLE watched (id int, note text);
CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION log_secret();
CREATE TABLE ruled (id int, note text);
CREATE RULE copy_rule AS ON INSERT TO ruled DO ALSO INSERT INTO audit_log SELECT name, pan FROM users, cards;
CREATE SEQUENCE counter;
CREATE FUNCTION allowed(text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT 1 FROM users WHERE ssn = $1)';
CREATE DOMAIN checked AS text CHECK (allowed(VALUE));
CREATE VIEW vips AS SELECT id, name, salary * 2 AS twice FROM users WHERE vip;
CREATE VIEW v_scratch AS SELECT id, a AS alpha FROM scratch;
CREATE FUNCTION code_of(u users) RETURNS text LANGUAGE sql STABLE AS 'SELECT upper(u.ssn)';
CREATE FUNCTION dynamic(q text) RETURNS int LANGUAGE plpgsql AS 'DECLARE n int; BEGIN EXECUTE q INTO n; RETURN n; END';
CREATE FUNCTION as_owner() RETURNS SETOF cards LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS 'SELECT * FROM cards';
CREATE FUNCTION two(OUT a int, OUT b text) LANGUAGE sql STABLE AS 'SELECT id, email FROM users LIMIT 1';
CREATE FUNCTION table_of(n int) RETURNS TABLE (k text, v text) LANGUAGE plpgsql STABLE AS
  'BEGIN RETURN QUERY SELECT name, token::text FROM users WHERE id = n; END';
CREATE FUNCTION atomic(n int) RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT pan FROM cards WHERE id = n; END;
CREATE PROCEDURE wipe() LANGUAGE plpgsql AS 'BEGIN DELETE FROM orders; COMMIT; END';
CREATE FUNCTION eq_secret(text, int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT 1 FROM users WHERE ssn = $1 AND id = $2)';
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = int, FUNCTION = eq_secret);
CREATE FUNCTION hr.upper(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT max(pan) FROM public.cards';
CREATE TABLE with_default (id int DEFAULT nextval('counter'), note text DEFAULT ssn_of(1));
CREATE FUNCTION rec(n int) RETURNS text LANGUAGE plpgsql STABLE AS
  'BEGIN IF n = 0 THEN RETURN (SELECT max(pan) FROM cards); END IF; RETURN rec(n - 1); END';
CREATE FUNCTION odd(n int) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT max(city) FROM addresses); END';
CREATE FUNCTION even(n int) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN odd(n - 1) || (SELECT max(ssn) FROM users); END';
CREATE OR REPLACE FUNCTION odd(n int) RETURNS text LANGUAGE plpgsql STABLE AS
  'BEGIN RETURN even(n - 1) || (SELECT max(city) FROM addresses); END';
CREATE TABLE with_domain (id int, code checked);
