import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Timer;
import java.util.TimerTask;

/** JDBC while a statement is held: one line a scenario. Usage: Held URL USER. */
public class Held {
  static void say(String scenario, String result) {
    System.out.println(scenario + "\t" + result);
    System.out.flush();
  }

  static String text(String scenario) {
    return "INSERT INTO ran (what) VALUES ('jdbc-" + scenario + "') RETURNING what";
  }

  /** The first value, or the SQLSTATE. */
  static String seen(Statement statement, String sql) {
    try (ResultSet rows = statement.executeQuery(sql)) {
      rows.next();
      return rows.getString(1);
    } catch (SQLException error) {
      return error.getSQLState();
    }
  }

  static Connection connect(String[] args, String options) throws SQLException {
    return DriverManager.getConnection(args[0] + options, args[1], "");
  }

  public static void main(String[] args) throws Exception {
    try (Connection connection = connect(args, "");
        Statement statement = connection.createStatement()) {
      say("waits", seen(statement, text("yes")));
      String warned = statement.getWarnings() == null ? "none" : "held";
      say("warnings", warned);
      say("rejected", seen(statement, text("no")));
      statement.setQueryTimeout(2);
      say("setQueryTimeout", seen(statement, text("query-timeout")));
      statement.setQueryTimeout(0);
      Timer timer = new Timer(true);
      timer.schedule(
          new TimerTask() {
            public void run() {
              try {
                statement.cancel();
              } catch (SQLException error) {
                say("cancel", error.getSQLState());
              }
            }
          },
          2000);
      say("cancelled", seen(statement, text("cancel")));
      say("afterwards", seen(statement, "SELECT 'alive'"));
      String insert = "INSERT INTO ran (what) VALUES (?) RETURNING what";
      try (PreparedStatement prepared = connection.prepareStatement(insert)) {
        prepared.setString(1, "jdbc-parameter-yes");
        try (ResultSet rows = prepared.executeQuery()) {
          rows.next();
          say("a parameter", rows.getString(1));
        }
      }
      try (PreparedStatement prepared = connection.prepareStatement(insert)) {
        for (String which : new String[] {"batch-1", "batch-2"}) {
          prepared.setString(1, "jdbc-" + which + "-yes");
          prepared.addBatch();
        }
        say("a batch", String.valueOf(prepared.executeBatch().length));
      }
    }
    try (Connection connection = connect(args, "&socketTimeout=2");
        Statement statement = connection.createStatement()) {
      say("socketTimeout", seen(statement, text("socket-timeout")));
      say("afterwards", connection.isClosed() ? "closed" : "open");
    }
  }
}
