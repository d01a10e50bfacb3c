import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;

/** Logs in with the password of $PGPASSWORD and prints one value. Usage: Login URL USER QUERY */
public class Login {
  public static void main(String[] args) throws Exception {
    try (Connection connection =
            DriverManager.getConnection(args[0], args[1], System.getenv("PGPASSWORD"));
        ResultSet rows = connection.createStatement().executeQuery(args[2])) {
      rows.next();
      System.out.println(rows.getString(1));
    }
  }
}
