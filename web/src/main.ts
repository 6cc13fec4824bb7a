// Where the page begins.
import "./styles/tokens.css";
import "./app/shell";
