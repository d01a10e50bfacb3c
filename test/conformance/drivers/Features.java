import java.io.StringReader;
import java.io.StringWriter;
import java.security.MessageDigest;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/** JDBC: every feature once, a line each; run directly and through, the lines must be equal. */
public final class Features {
  interface Run { void run() throws Exception; }

  static void say(String feature, Object result) {
    System.out.println(feature + "\t" + String.valueOf(result).replace("\n", "\\n"));
  }

  static Connection connect(String options) throws SQLException {
    Map<String, String> env = System.getenv();
    return DriverManager.getConnection("jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT")
        + "/" + env.get("PGDATABASE") + "?sslmode=disable" + options, env.get("PGUSER"), env.get("PGPASSWORD"));
  }

  static String errorOf(Run run) throws Exception {
    try {
      run.run();
      return "none";
    } catch (SQLException e) {
      SQLException last = e;
      while (last.getNextException() != null) last = last.getNextException();
      ServerErrorMessage m = last instanceof PSQLException ? ((PSQLException) last).getServerErrorMessage() : null;
      return m == null ? last.getSQLState() : Arrays.asList(m.getSQLState(), m.getSeverity(), m.getMessage(), m.getConstraint(), m.getPosition()).toString();
    }
  }

  static List<List<Object>> rows(ResultSet r) throws SQLException {
    List<List<Object>> all = new ArrayList<>();
    while (r.next()) {
      List<Object> row = new ArrayList<>();
      for (int i = 1; i <= r.getMetaData().getColumnCount(); i++) row.add(r.getObject(i));
      all.add(row);
    }
    return all;
  }

  static String md5(String text) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("MD5").digest(text.getBytes("UTF-8")));
  }

  public static void main(String[] args) throws Exception {
    try (Connection db = connect(""); Statement s = db.createStatement()) {
      ResultSet r = s.executeQuery("SELECT 1 AS a, 'ä€' AS b, NULL AS c, 3.14::numeric AS d, true AS e, DATE '2024-02-29' AS f");
      ResultSetMetaData meta = r.getMetaData();
      List<String> types = new ArrayList<>();
      for (int i = 1; i <= meta.getColumnCount(); i++) types.add(meta.getColumnName(i) + ":" + meta.getColumnTypeName(i));
      say("simple", types + " " + rows(r));
      boolean first = s.execute("SELECT 1; SELECT 2");
      s.getMoreResults();
      say("multi-statement", first + " " + rows(s.getResultSet()));
      List<Object> prepared = new ArrayList<>();
      try (PreparedStatement p = db.prepareStatement("SELECT ? * 2, ?::text, ?::bytea, ?::float8")) {
        for (int n = 0; n < 12; n++) {
          p.setInt(1, n);
          p.setString(2, "it's");
          p.setBytes(3, new byte[] {0, 1});
          p.setDouble(4, 2.5);
          ResultSet one = p.executeQuery();
          one.next();
          prepared.add(one.getInt(1) + one.getString(2) + Arrays.toString(one.getBytes(3)) + one.getDouble(4));
        }
      }
      say("prepared", prepared);
      s.execute("DROP TABLE IF EXISTS drv");
      s.execute("CREATE TABLE drv (id int PRIMARY KEY, body text)");
      CopyManager copy = db.unwrap(PGConnection.class).getCopyAPI();
      long copied = copy.copyIn("COPY drv FROM STDIN", new StringReader("1\tone\n2\t\\N\n3\tthree\\tx\n"));
      say("COPY in", copied + errorOf(() -> copy.copyIn("COPY drv FROM STDIN", new StringReader("9\tnine\nx\ty\n"))));
      StringWriter out = new StringWriter();
      say("COPY out", copy.copyOut("COPY drv TO STDOUT CSV", out) + " " + out);
      db.setAutoCommit(false);
      try (PreparedStatement p = db.prepareStatement("SELECT n FROM generate_series(1, 1000) n")) {
        p.setFetchSize(50);
        long sum = 0;
        ResultSet many = p.executeQuery();
        while (many.next()) sum += many.getInt(1);
        say("cursors", sum);
      }
      db.rollback();
      s.executeUpdate("INSERT INTO drv VALUES (10, 'x')");
      Savepoint point = db.setSavepoint();
      String clash = errorOf(() -> s.executeUpdate("INSERT INTO drv VALUES (1, 'again')"));
      db.rollback(point);
      db.commit();
      db.setAutoCommit(true);
      say("transactions", clash + rows(s.executeQuery("SELECT id FROM drv ORDER BY id")));
      List<String> errors = new ArrayList<>();
      for (String sql : List.of("SELEC 1", "SELECT 1/0", "SELECT * FROM nowhere", "SELECT 'ä' FROM")) errors.add(errorOf(() -> s.executeQuery(sql)));
      say("errors", errors);
      s.clearWarnings();
      s.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'careful'; END $$");
      List<String> notices = new ArrayList<>();
      for (SQLWarning w = s.getWarnings(); w != null; w = w.getNextWarning()) notices.add(w.getMessage());
      say("notices", notices);
      try (Connection other = connect("")) {
        s.execute("LISTEN news");
        other.createStatement().execute("SELECT pg_notify('news', 'extra')");
        PGNotification[] heard = db.unwrap(PGConnection.class).getNotifications(5000);
        say("LISTEN/NOTIFY", heard[0].getName() + heard[0].getParameter() + (heard[0].getPID() == other.unwrap(PGConnection.class).getBackendPID()));
      }
      Thread canceller = new Thread(() -> {
        try {
          Thread.sleep(300);
          s.cancel();
        } catch (Exception e) {
          throw new IllegalStateException(e);
        }
      });
      canceller.start();
      say("cancel", errorOf(() -> s.executeQuery("SELECT pg_sleep(20)")));
      canceller.join();
      Thread.sleep(500);
      ResultSet big = s.executeQuery("SELECT repeat('x', 10000000)");
      big.next();
      String hash = md5(big.getString(1));
      say("large rows", hash + md5(rows(s.executeQuery("SELECT n, md5(n::text) FROM generate_series(1, 50000) n")).toString()));
      try (PreparedStatement p = db.prepareStatement("INSERT INTO drv VALUES (?, ?)")) {
        for (int n = 100; n < 400; n++) {
          p.setInt(1, n);
          p.setString(2, "row " + n);
          p.addBatch();
        }
        int inserted = p.executeBatch().length;
        for (int n : new int[] {500, 1, 501}) {
          p.setInt(1, n);
          p.setString(2, "clash");
          p.addBatch();
        }
        String refused = errorOf(p::executeBatch);
        say("pipelining", inserted + refused + rows(s.executeQuery("SELECT count(*), max(id) FROM drv")));
      }
      try (Connection forced = connect("&prepareThreshold=-1&binaryTransfer=true"); PreparedStatement p = forced.prepareStatement("SELECT ?::int4, 7::int8, 2.5::float8, '2024-02-29 12:00:00'::timestamp, '00000000-0000-0000-0000-000000000001'::uuid")) {
        p.setInt(1, 3);
        say("binary", rows(p.executeQuery()));
      }
      s.execute("DROP TABLE drv");
    }
  }
}
